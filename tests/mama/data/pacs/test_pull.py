"""Pulling from an archive that works: what comes, what is left, and what is not asked again."""

import json
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mama.data.dicom.scan import scan
from mama.data.pacs import Pulled, archive
from mama.errors import ConfigError, DataError, ServiceError
from mama.system.locks import at_work_in
from server.federation.certificates import make_authority
from tests.certificates import make_server_certificate
from tests.mama.data.pacs.server import Answer, Server, as_json, multipart, serving

Bring = Callable[..., Pulled]
Names = Callable[[], list[str]]
BOTH = ["1.2.1/1.2.1.76.dcm", "1.2.1/1.2.1.82.dcm", "1.2.2/1.2.2.76.dcm", "1.2.2/1.2.2.82.dcm"]
TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"


def test_whole_studies_come_once(
    server: Server, bring: Bring, pulled_files: Names, tmp_path: Path
) -> None:
    first = bring()
    assert (first.listed, first.new, first.changed, first.exit_code) == (2, 2, 0, 0)
    assert pulled_files() == BOTH
    original = (tmp_path / "hospital" / "1L.dcm").read_bytes()
    assert (tmp_path / "source/pacs/1.2.1/1.2.1.76.dcm").read_bytes() == original
    assert (tmp_path / "source/pacs/1.2.1").stat().st_mode & 0o077 == 0
    server.asked.clear()
    assert (bring().new, server.asked) == (0, ["/studies", "/studies"])


def test_other_objects_stay_and_are_counted(
    server: Server, bring: Bring, pulled_files: Names, write_exam: Callable[..., list[Path]]
) -> None:
    server.studies.clear()
    for path in [
        *write_exam(1, "L"),
        *write_exam(1, "T", SOPClassUID=TOMOSYNTHESIS, NumberOfFrames=60, ImageLaterality=None),
        *write_exam(1, "P", PresentationIntentType="FOR PROCESSING"),
        *write_exam(1, "S", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67", Rows=None, Columns=None),
    ]:
        server.add(path)
    for _ in range(2):  # told again although nothing is pulled
        left = bring().left
        assert left == {"tomosynthesis": 1, "for-processing": 1, "no-image": 1}
    assert pulled_files() == ["1.2.1/1.2.1.76.dcm"]
    assert server.retrieved() == ["1.2.1.76"]


def test_what_a_header_does_not_show_is_pulled(
    server: Server, bring: Bring, pulled_files: Names
) -> None:
    """Some archives give a selection of the header; ingest judges the file."""
    names = ("0020000D", "0020000E", "00080018", "00080016")

    def answer(path: str, query: dict[str, str]) -> Answer | None:
        if not path.endswith("/metadata"):
            return None
        server.answer = lambda *_: None
        whole = json.loads(server.reply(path, query).body)
        server.answer = answer
        return as_json([{name: item[name] for name in names} for item in whole])

    server.answer = answer
    assert bring().left == {}
    assert pulled_files() == BOTH


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "uncounted"])
def test_a_study_that_changed_is_pulled_again(
    server: Server,
    bring: Bring,
    pulled_files: Names,
    write_exam: Callable[..., list[Path]],
    counted: bool,
) -> None:
    if not counted:
        listed = server.listed
        server.listed = lambda uid: {k: v for k, v in listed(uid).items() if k != "00201208"}
    bring()
    assert bring().changed == 0
    server.add(*write_exam(2, "M"))
    again = bring()
    assert (again.new, again.changed) == (0, 1)
    assert pulled_files() == sorted([*BOTH, "1.2.2/1.2.2.77.dcm"])
    assert bring().changed == 0


def test_a_file_that_was_removed_here_comes_again(
    bring: Bring, pulled_files: Names, tmp_path: Path
) -> None:
    bring()
    (tmp_path / "source" / "pacs" / BOTH[0]).unlink()
    assert bring().new == 1
    assert pulled_files() == BOTH


def test_dates_and_modality_hold_even_if_the_archive_ignores_them(
    server: Server, bring: Bring, pulled_files: Names, write_exam: Callable[..., list[Path]]
) -> None:
    server.add(*write_exam(3, "L", Modality="US"))
    assert bring(study_date=("2020-01-02", "2020-01-31")).listed == 1
    assert pulled_files() == BOTH[2:]
    with pytest.raises(DataError, match=r"localhost:\d+/dicom-web: has no study of modality MG"):
        bring(study_date=("2021-01-01", None))


def test_pages(server: Server, bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mama.data.pacs.query.PAGE", 1)
    assert bring().new == 2
    assert server.asked.count("/studies") == 3


def test_those_who_withdrew_are_not_pulled(
    server: Server, bring: Bring, pulled_files: Names
) -> None:
    result = bring(withdrawn=("patient-1", "1.2.2"))
    assert (result.withdrawn, result.new, server.retrieved()) == (2, 0, [])
    assert "2 withdrawn and not pulled" in result.lines()[0]


def test_ingest_does_not_look_at_what_is_unfinished(
    bring: Bring, tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    bring()
    write_dicom(tmp_path / "source" / "pacs" / ".partial" / "1.2.9" / "1.dcm")
    assert len(scan(tmp_path / "source").found) == 4
    bring()
    assert not (tmp_path / "source" / "pacs" / ".partial").exists()


def test_a_large_object_is_not_held_in_memory(server: Server, bring: Bring, tmp_path: Path) -> None:
    whole = multipart((tmp_path / "hospital" / "1L.dcm").read_bytes() + bytes(2**25))

    def body() -> Iterator[bytes]:
        view = memoryview(whole.body)
        yield from (view[place : place + 2**16] for place in range(0, len(view), 2**16))

    large = Answer(200, whole.headers | {"Content-Length": str(len(whole.body))}, body())
    server.answer = lambda path, _: large if path.endswith("/1.2.1.76") else None
    tracemalloc.start()
    bring()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "source" / "pacs" / BOTH[0]).stat().st_size > 2**25
    assert peak < 2**23


def test_a_folder_that_no_pull_has_made_is_left_alone(
    bring: Bring, tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    own = write_dicom(tmp_path / "source" / "pacs" / "1.2.1" / "own.dcm")
    with pytest.raises(DataError, match="pacs: holds a folder of the same name as a study"):
        bring()
    assert own.exists()


def test_two_do_not_pull_at_once(bring: Bring, tmp_path: Path) -> None:
    with (
        at_work_in(tmp_path / "source" / "pacs"),
        pytest.raises(ServiceError, match="another process"),
    ):
        bring()


@pytest.mark.parametrize("line", ["puller:pass:word", "Bearer abc.def"])
def test_credentials_and_no_proxy(
    server: Server, bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "credentials").write_text(f"{line}\n")
    (tmp_path / "credentials").chmod(0o644)
    with pytest.raises(ConfigError, match=r"readable by others \(644\). Run `chmod 600"):
        bring(credentials=tmp_path / "credentials")
    (tmp_path / "credentials").chmod(0o600)
    bring(credentials=tmp_path / "credentials")
    expected = "Basic cHVsbGVyOnBhc3M6d29yZA==" if ":" in line else line
    assert {headers["Authorization"] for headers in server.headers} == {expected}
    port = server.url.split(":")[2].split("/")[0]
    assert {headers["Host"] for headers in server.headers} == {f"localhost:{port}"}


def test_tls_trusts_the_named_authority_only(bring: Bring, server: Server, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt", tmp_path / "ca.key"
    make_authority("archive", *authority)
    pair = tmp_path / "pacs.crt", tmp_path / "pacs.key"
    make_server_certificate(["localhost"], 2, *authority, *pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    with serving(context) as secure:
        secure.studies = server.studies
        with pytest.raises(ServiceError, match=r"TLS connection failed \(.*certificate"):
            bring(url=secure.url)
        assert bring(url=secure.url, ca=authority[0]).new == 2


def test_the_archive_says_when_to_come_again(
    server: Server, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(archive, "WAITS", (1, 4, 16))
    busy = iter(["7", "0", "99999", None])

    def answer(path: str, _: dict[str, str]) -> Answer | None:
        seconds = next(busy, None)
        return Answer(503, {"Retry-After": seconds}) if seconds else None

    server.answer = answer
    assert bring().new == 2
    assert waited == [7, 4, 300]
