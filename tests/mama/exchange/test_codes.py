"""Errors reported by a site: every code has its own fixed sentence."""

from mama.exchange.codes import SENTENCES, ErrorCode


def test_every_code_has_a_sentence_of_its_own() -> None:
    sentences = [code.sentence for code in ErrorCode]
    assert len(set(sentences)) == len(ErrorCode) == len(SENTENCES)
    for sentence in sentences:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "\n" not in sentence
