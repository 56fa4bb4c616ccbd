"""Sentences of reports for tests."""

from collections.abc import Iterable

from mama.data.reports.language import load_language
from mama.data.reports.read import read_report
from mama.data.studies import Laterality, Sentence


def read(text: str) -> tuple[Sentence, ...]:
    """Return the sentences of an English report as ingest reads them."""
    return read_report(text, load_language("en")).sentences


def sided(texts: Iterable[str]) -> tuple[Sentence, ...]:
    """Return sentences whose side is the one that they name; both if they name none."""
    return tuple(
        Sentence(
            text=text,
            side="L" if "left" in text.lower() else "R" if "right" in text.lower() else "both",
            section=None,
        )
        for text in texts
    )


def about(sentences: Iterable[Sentence], side: Laterality) -> tuple[str, ...]:
    """Return the texts of the sentences about one breast or about both."""
    return tuple(sentence.text for sentence in sentences if sentence.side in (side, "both"))
