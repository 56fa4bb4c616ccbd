"""Tokenised reports: token ids and the positions of their sentences."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CACHE_SIZE = 2**14  # sentences; reports repeat them, and a look-up is cheaper than tokenising


class Tokens(NamedTuple):
    """A batch of N reports of at most T tokens, with S sentences in the order of the reports.

    `ids` (N, T) int64, with `mask` (N, T) bool, true at real tokens. `separators` (S,) int64 are
    the positions of sentence ends in the flattened N * T tokens. `owners` (N, T) int64 is the
    sentence of each word token, and S at start, separator and padding tokens. `counts` (N,) int64,
    always on the CPU, is each report's number of sentences; `truncated` is the number of reports
    that were too long and lost words.
    """

    ids: Tensor
    mask: Tensor
    separators: Tensor
    owners: Tensor
    counts: Tensor
    truncated: int

    def to(self, device: torch.device) -> "Tokens":
        """Return the batch on another device; `counts` stays on the CPU."""
        return self._replace(
            ids=self.ids.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            separators=self.separators.to(device, non_blocking=True),
            owners=self.owners.to(device, non_blocking=True),
        )


class ReportTokeniser:
    """Tokeniser of reports: a start token, then the words of each sentence and a separator.

    `separator_id` is the tokeniser's separator or else its end-of-text token, `start_id` its class
    or else its beginning-of-text token. None if it has neither; the tower then uses a vector of its
    own.

    Args:
        tokeniser: a transformers tokeniser.
        max_tokens: maximal length of a report in tokens, including start and separators.
    """

    def __init__(self, tokeniser: Any, max_tokens: int):
        self.tokeniser, self.max_tokens = tokeniser, max_tokens
        self.separator_id = _first(tokeniser.sep_token_id, tokeniser.eos_token_id)
        self.start_id = _first(tokeniser.cls_token_id, tokeniser.bos_token_id)
        self._cache: dict[str, list[int]] = {}

    def __call__(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokenise N >= 1 reports, each a sequence of sentences.

        Sentences without a word are dropped; a report without any word is its start token alone. A
        report longer than `max_tokens` ends after its last sentence that fits entirely; only a
        first sentence is truncated.
        """
        rows = [self._row(report) for report in reports]
        ids = pad_sequence([torch.tensor(row) for row, _, _ in rows], batch_first=True)
        length = ids.shape[1]
        lengths = torch.tensor([len(row) for row, _, _ in rows])
        mask = torch.arange(length) < lengths[:, None]
        separators = torch.tensor(
            [n * length + end for n, (_, ends, _) in enumerate(rows) for end in ends],
            dtype=torch.int64,
        )
        ends = torch.zeros_like(mask).flatten().index_fill(0, separators, True).view_as(mask)
        words = mask & ~ends
        words[:, 0] = False
        passed = ends.flatten().cumsum(0).view_as(ids)
        return Tokens(
            ids,
            mask,
            separators,
            passed.masked_fill(~words, len(separators)),
            torch.tensor([len(ends) for _, ends, _ in rows]),
            sum(cut for _, _, cut in rows),
        )

    def _row(self, report: Sequence[str]) -> tuple[list[int], list[int], bool]:
        """Return token ids, positions of the separators, and whether words were lost."""
        ids = [self.start_id or 0]
        ends: list[int] = []
        for sentence in report:
            words = self._words(sentence)
            if not words:
                continue
            room = self.max_tokens - len(ids) - 1
            if len(words) > room and ends:
                return ids, ends, True
            ids += [*words[:room], self.separator_id or 0]
            ends.append(len(ids) - 1)
            if len(words) > room:
                return ids, ends, True
        return ids, ends, False

    def _words(self, sentence: str) -> list[int]:
        if sentence not in self._cache:
            if len(self._cache) == CACHE_SIZE:
                self._cache.clear()
            ids = self.tokeniser(sentence, add_special_tokens=False)["input_ids"]
            self._cache[sentence] = ids
        return self._cache[sentence]


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
