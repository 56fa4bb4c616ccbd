"""An archive that fails, lies or attacks: one line without patient data, and nothing half."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mama.config.ingest import PacsConfig
from mama.data.pacs import Pulled, archive, query
from mama.data.pacs.multipart import MalformedError, TruncatedError, only_part
from mama.errors import ConfigError, MamaError, ServiceError
from tests.mama.data.pacs.server import Answer, Server, as_json, multipart

Bring = Callable[..., Pulled]
Names = Callable[[], list[str]]
HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/dicom+json"}
SECOND = ["1.2.2/1.2.2.76.dcm", "1.2.2/1.2.2.82.dcm"]


def listed(uid: str, **more: Any) -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [uid]}} | more


def only(end: str, answer: Callable[[], Answer]) -> Callable[..., Answer | None]:
    """Replace the answers to paths with this end."""
    return lambda path, _: answer() if path.endswith(end) else None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(401), r"refuses the credentials \(401\). Check data.pacs.credentials"),
        (Answer(404), r"does not offer this \(404\). Check data.pacs.url"),
        (Answer(500), "answers 500"),
        (None, "closes the connection without an answer"),
        (Answer(302, {"Location": "http://elsewhere/"}), r"redirects to another address \(302\)"),
        (Answer(200, HTML, b"<html>"), "is not DICOMweb: it answers text/html instead of JSON"),
        (Answer(200, JSON, b"[{"), "an answer is not JSON"),
        (Answer(200, JSON, b"[" * 100_000), "an answer is not JSON"),
        (Answer(200, JSON, b"[" + b"1" * 5000 + b"]"), "an answer cannot be read"),
        (Answer(200, JSON, bytes(9000)), "an answer has more than 8,000 bytes"),
        (Answer(200, JSON | {"Content-Length": "900"}, b"[]"), "a transfer was cut short"),
        (Answer(200, JSON, b'"text"'), "has no study of modality MG and these dates"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_query_that_fails(
    server: Server,
    bring: Bring,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: Answer | None,
    message: str,
) -> None:
    nested = answer is not None and answer.body[:2] == b"[["
    monkeypatch.setattr(archive, "MOST_JSON", 200_000 if nested else 8000)
    server.answer = lambda *_: answer or 1 / 0
    (tmp_path / "word").write_text("user:hidden-word")
    (tmp_path / "word").chmod(0o600)
    with pytest.raises(MamaError, match=f"^{server.url}: {message}") as caught:
        bring(credentials=tmp_path / "word", study_date=("2020-01-01", None))
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caplog.text == ""  # the libraries' lines quote addresses
    assert not (tmp_path / "source").exists()


def test_an_archive_that_is_not_there(server: Server, bring: Bring) -> None:
    with pytest.raises(ServiceError, match=r"localhost:9/x: cannot be reached\. Check"):
        bring(url="http://localhost:9/x")


def test_a_list_that_repeats_itself_ends(
    server: Server, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = [server.listed(uid) for uid in server.studies]
    answers = {"/studies": as_json(page)}
    server.answer = lambda path, _: answers.get(path)
    assert bring().new == 2
    # A full page, or a warning, may hide others.
    answers["/studies"] = as_json(page, Warning='299 x: "There are 7 additional results"')
    with pytest.raises(ServiceError, match="repeats its list after 2 studies, so that others may"):
        bring()
    answers["/studies"] = as_json(page)
    monkeypatch.setattr(query, "PAGE", 2)
    with pytest.raises(ServiceError, match=r"Give fewer days as data\.pacs\.study_date"):
        bring()


def test_a_list_without_an_end_is_stopped(
    server: Server, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MOST_STUDIES", 10)
    numbers = count(1)
    server.answer = lambda *_: as_json([listed(f"1.{next(numbers)}"), listed(f"1.{next(numbers)}")])
    with pytest.raises(ServiceError, match="lists more than 10 studies"):
        bring()


@pytest.mark.parametrize("uid", ["../../evil", "1.2/../../../evil", "1.2\n3", "", "1" * 65, ".."])
def test_a_uid_that_is_a_path(
    server: Server, bring: Bring, pulled_files: Names, tmp_path: Path, uid: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    good = server.listed("1.2.2")
    server.answer = lambda path, q: (
        as_json([good, listed(uid)] if q["offset"] == "0" else []) if path == "/studies" else None
    )
    result = bring()
    assert (result.new, result.exit_code) == (1, 3)
    assert "1 has no valid StudyInstanceUID" in result.lines()[-1]
    instance = listed("1.2.1") | {
        "0020000E": {"vr": "UI", "Value": ["1.2.1.9"]},
        "00080018": {"vr": "UI", "Value": [uid]},
    }
    server.answer = only("1.2.1/metadata", lambda: as_json([instance]))
    assert bring().failed == {"names an object without valid UIDs": 1}
    assert pulled_files() == SECOND
    new = set(tmp_path.rglob("*")) - set(before)
    assert {path for path in new if tmp_path / "source" not in path.parents} == {
        tmp_path / "source"
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda one, other: multipart(other), "sends another object than was asked for"),
        (lambda one, other: multipart(b"not DICOM" * 100), "sends an object that is not DICOM"),
        (lambda one, other: multipart(b""), "sends an object that is not DICOM"),
        (lambda one, other: multipart(one, other), "an answer is not the one object"),
        (lambda one, other: multipart(one, closing=b""), "a transfer was cut short"),
        (lambda one, other: Answer(200, HTML, one), "an answer is not the one object"),
        (
            lambda one, other: Answer(
                200,
                {"Content-Type": "application/dicom", "Content-Length": str(len(one) + 9)},
                one,
            ),
            "a transfer was cut short",
        ),
        (lambda one, other: Answer(404), r"does not offer this (404)"),
        (lambda one, other: Answer(500), "answers 500"),
    ],
)
def test_an_object_that_is_wrong_leaves_no_study(
    server: Server,
    bring: Bring,
    pulled_files: Names,
    tmp_path: Path,
    answer: Callable[[bytes, bytes], Answer],
    message: str,
) -> None:
    one, other = ((tmp_path / "hospital" / f"1{side}.dcm").read_bytes() for side in "LR")
    server.answer = only("/1.2.1.76", lambda: answer(one, other))
    result = bring()
    assert (result.new, result.exit_code, result.failed.total()) == (1, 3, 1)
    assert f"tried again next time: 1 {message}" in result.lines()[-1]
    assert [name for name in pulled_files() if ".partial" not in name] == SECOND
    server.answer = lambda *_: None
    assert (bring().new, len(pulled_files())) == (1, 4)


def test_an_object_larger_than_any_mammogram_is_left(
    server: Server, bring: Bring, pulled_files: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    sent = []

    def endless() -> Iterator[bytes]:
        yield b"--next-part\r\n\r\n"
        for _ in range(1000):
            sent.append(1)
            yield bytes(2**20)

    def answer() -> Answer:
        return Answer(200, multipart(b"").headers | {"Connection": "close"}, endless())

    server.answer = only("/1.2.1.76", answer)
    assert bring().left == {"too-large": 1}
    assert pulled_files() == ["1.2.1/1.2.1.82.dcm", *SECOND]
    assert len(sent) < 100


def test_an_answer_that_drips_is_broken_off(
    server: Server, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LONGEST", 0.2)

    def drops() -> Iterator[bytes]:
        yield b"--next-part\r\n\r\n"
        for _ in range(200):
            time.sleep(0.05)
            yield b"x"

    server.answer = only("/1.2.1.76", lambda: Answer(200, multipart(b"").headers, drops()))
    assert bring().failed == {"answers too slowly": 1}


def test_studies_that_fail_in_a_row_stop_the_pull(
    server: Server, bring: Bring, write_exam: Callable[..., list[Path]]
) -> None:
    for number in range(3, 9):
        server.add(*write_exam(number, "L"))
    server.answer = lambda path, _: Answer(500) if path.endswith("/metadata") else None
    with pytest.raises(ServiceError, match="5 studies in a row failed, the last since it answers"):
        bring()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_object_in_pieces(size: int) -> None:
    content = b"\r\n--next\r\n--next-par\r\n" + bytes(range(256))
    for before in (b"", b"preamble\r\n"):
        whole = before + b"--next-part\r\nA: b\r\n\r\n" + content + b"\r\n--next-part--\r\n"
        pieces = [whole[place : place + size] for place in range(0, len(whole), size)]
        assert b"".join(only_part(iter(pieces), b"next-part")) == content
        for end in range(len(whole) - 4):
            with pytest.raises(TruncatedError):
                list(only_part(iter([whole[:end]] if end else []), b"next-part"))
    with pytest.raises(MalformedError):
        list(only_part(iter([bytes(2**16), bytes(2**16)]), b"next-part"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "https://user:hidden@pacs/x"}, "no user or password"),
        ({"url": "http://pacs.example.org/x"}, "https://"),
        ({"url": "file:///etc/passwd"}, "HOST"),
        ({"url": "https://pacs:port/x"}, "not an address"),
        ({"url": "https://pacs/x?a=b"}, "HOST"),
        ({"url": "https://pacs/\r\nx"}, "no user or password"),
        ({"study_date": ("2021-01-01", "2020-01-01")}, "earlier day"),
        ({"modality": "MG*"}, "pattern"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    whole = {"url": "https://pacs/x", "study_date": (None, None)}
    PacsConfig(**whole)
    with pytest.raises(ValidationError, match=message):
        PacsConfig(**whole | settings)


@pytest.mark.parametrize("content", ["", "no colon", ":word", "user:a\nX-Other: b", None])
def test_credentials_and_certificates_that_are_none(
    bring: Bring, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "word"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"holds no credentials|cannot be read"):
        bring(credentials=path)
    with pytest.raises(ConfigError, match="word: is not a certificate"):
        bring(ca=path)
