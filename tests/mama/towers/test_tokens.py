"""Tokenised reports: sentences in order, cut at a sentence's end, lost words counted."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mama.towers import tokens as module
from mama.towers.tokens import ReportTokeniser

WORDS = ["no", "mass", "the", "left", "breast", "is", "dense", "."]
START, END = 1, 2


class Words:
    """A tokeniser of words: their place in WORDS plus 3."""

    def __init__(self, **special: int | None):
        self.calls = 0
        names = ("sep_token_id", "eos_token_id", "cls_token_id", "bos_token_id")
        for name in names:
            setattr(self, name, special.get(name))

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        self.calls += 1
        return {"input_ids": [WORDS.index(word) + 3 for word in text.split()]}


def tokeniser(max_tokens: int = 8, **special: int | None) -> ReportTokeniser:
    special = special or {"cls_token_id": START, "sep_token_id": END}
    return ReportTokeniser(Words(**special), max_tokens)


def test_two_reports() -> None:
    tokens = tokeniser()([["no mass", "dense"], [], ["mass"]])
    no, mass, dense = (WORDS.index(word) + 3 for word in ("no", "mass", "dense"))
    assert tokens.ids.tolist() == [
        [START, no, mass, END, dense, END],
        [START, 0, 0, 0, 0, 0],
        [START, mass, END, 0, 0, 0],
    ]
    assert tokens.mask.sum(1).tolist() == [6, 1, 3]
    assert tokens.mask[:, 0].all()
    assert tokens.separators.tolist() == [3, 5, 14]
    assert tokens.owners.tolist() == [[3, 0, 0, 3, 1, 3], [3] * 6, [3, 2, 3, 3, 3, 3]]
    assert tokens.counts.tolist() == [2, 0, 1]
    assert tokens.truncated == 0


@pytest.mark.parametrize(
    ("report", "words", "sentences", "cut"),
    [
        ([], 0, 0, 0),
        (["", " ", "\t\n"], 0, 0, 0),  # nothing is left of them
        (["."], 1, 1, 0),
        (["no mass", "", "no mass"], 4, 2, 0),
        (["no mass .", "left mass"], 5, 2, 0),  # 1 + 4 + 3 = 8 tokens: just fits
        (["no mass .", "left mass", " "], 5, 2, 0),  # and nothing is lost behind them
        (["no mass .", "left mass ."], 3, 1, 1),  # one too many: ends with the sentence before
        (["no mass .", "left mass .", "no"], 3, 1, 1),  # and nothing follows the gap
        (["the breast is dense . no"], 6, 1, 0),
        (["the breast is dense . no mass"], 6, 1, 1),  # a single long sentence is cut
        (["the breast is dense . no mass", "no"], 6, 1, 1),
        (["the breast is dense . no", "no"], 6, 1, 1),
    ],
)
def test_long_and_empty_reports(report: list[str], words: int, sentences: int, cut: int) -> None:
    tokens = tokeniser()([report])
    assert tokens.mask.sum() == 1 + words + sentences <= 8
    assert (tokens.owners < sentences).sum() == words
    assert len(tokens.separators) == tokens.counts.item() == sentences
    assert (tokens.ids[0, tokens.separators] == END).all()
    assert tokens.truncated == cut


def test_reports_that_were_cut_are_counted() -> None:
    long = ["no mass .", "left mass ."]
    assert tokeniser()([long, ["no"], long, []]).truncated == 2


SENTENCES = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)


@given(st.lists(st.lists(SENTENCES, max_size=5), min_size=1, max_size=4))
def test_every_report_lies_where_it_would_alone(reports: list[list[str]]) -> None:
    tokenise = tokeniser(12)
    together = tokenise(reports)
    length, first, cut = together.ids.shape[1], 0, 0
    assert length <= 12
    for row, report in enumerate(reports):
        alone = tokenise([report])
        size, count = alone.ids.shape[1], int(alone.counts)
        assert together.ids[row, :size].tolist() == alone.ids[0].tolist()
        assert together.mask[row].tolist() == [t < size for t in range(length)]
        packed = slice(first, first + count)
        assert (together.separators[packed] - row * length).tolist() == alone.separators.tolist()
        for place, sentence in enumerate(sentence for sentence in report if sentence):
            if place < count:
                own = together.ids[row][together.owners[row] == first + place]
                words = [WORDS.index(word) + 3 for word in sentence.split()]
                cut_inside = alone.truncated and place == 0
                assert own.tolist() == words[: len(own) if cut_inside else None]
        first, cut = first + count, cut + alone.truncated
    assert len(together.separators) == first == together.counts.sum()
    assert together.truncated == cut


@pytest.mark.parametrize(
    ("special", "separator", "start"),
    [
        ({"sep_token_id": 1, "eos_token_id": 2, "cls_token_id": 0, "bos_token_id": 3}, 1, 0),
        ({"eos_token_id": 0, "bos_token_id": 0}, 0, 0),
        ({"bos_token_id": 2}, None, 2),
        ({"eos_token_id": 2}, 2, None),
    ],
)
def test_special_tokens(special: Any, separator: int | None, start: int | None) -> None:
    made = tokeniser(**special)
    assert (made.separator_id, made.start_id) == (separator, start)
    assert made([["no"]]).ids.tolist() == [[start or 0, 3, separator or 0]]


def test_counts_stay_on_the_cpu() -> None:
    moved = tokeniser()([["no mass"], []]).to(torch.device("meta"))
    assert {part.device.type for part in moved[:4]} == {"meta"}
    assert moved.counts.tolist() == [1, 0]


def test_a_sentence_is_tokenised_once_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 2)
    made = tokeniser()
    first = made([["no", "mass", "no"]])
    assert made.tokeniser.calls == 2
    assert first.ids.tolist() == made([["no", "mass", "no"]]).ids.tolist()
    assert made.tokeniser.calls == 2
    for word in WORDS:
        made([[word]])
        assert len(made._cache) <= 2
    assert first.ids.tolist() == made([["no", "mass", "no"]]).ids.tolist()
