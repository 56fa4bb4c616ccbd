"""Reports as token ids, and where each of their sentences lies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

REMEMBERED = 2**14  # sentences; reports repeat them, and tokenising costs more than looking up


class Tokens(NamedTuple):
    """A batch of N reports of at most T tokens; its S sentences are packed, report 0's first, then report 1's.

    `ids` (N, T) int64, with `mask` (N, T) bool true at real tokens. `separators` (S,) int64 are the positions,
    counted through all N * T, at which sentences end; `owners` (N, T) int64 is the sentence whose word a token is, S at
    start, separators and padding. `counts` (N,) int64, on the CPU wherever the rest lies, are the reports' numbers
    of sentences; `truncated` is how many reports were too long and lost words.
    """

    ids: Tensor
    mask: Tensor
    separators: Tensor
    owners: Tensor
    counts: Tensor
    truncated: int

    def to(self, device: torch.device) -> "Tokens":
        """The same batch on another device."""
        return self._replace(
            ids=self.ids.to(device),
            mask=self.mask.to(device),
            separators=self.separators.to(device),
            owners=self.owners.to(device),
        )


class ReportTokeniser:
    """Turns reports into a start token and the words of each sentence with a separator behind them.

    `separator_id` and `start_id` are the tokeniser's own tokens: separator or else end of text, class or
    else beginning of text. None where it has none; the tower puts a vector of its own in their places.

    Args:
        tokeniser: a transformers tokeniser.
        max_tokens: longest report in tokens, start and separators included.
    """

    def __init__(self, tokeniser: Any, max_tokens: int):
        self.tokeniser, self.max_tokens = tokeniser, max_tokens
        self.separator_id = _first(tokeniser.sep_token_id, tokeniser.eos_token_id)
        self.start_id = _first(tokeniser.cls_token_id, tokeniser.bos_token_id)
        self._remembered: dict[str, list[int]] = {}

    def __call__(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokens of N >= 1 reports, each a sequence of sentences.

        Sentences without a word are left out, and a report without any is its start token alone. A report over
        `max_tokens` ends with its last whole sentence that fits; only a first sentence is cut inside.
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
        """Ids, positions of the separators, and whether words were lost."""
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
        if sentence not in self._remembered:
            if len(self._remembered) == REMEMBERED:
                self._remembered.clear()
            ids = self.tokeniser(sentence, add_special_tokens=False)["input_ids"]
            self._remembered[sentence] = ids
        return self._remembered[sentence]


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
