"""The ingest report in a browser: it loads nothing, has no error, and fits a telephone."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mama.data.ingest.report import PAGE
from tests.mama.data.export import person, write_export
from tests.mama.data.ingest.test_run import run

BROWSER = next(
    (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
# Chromium's window is no narrower than 500 pixels, so that a frame stands for a telephone.
FRAME = """<!doctype html><iframe id="f" src="{page}" style="width:375px;height:800px"></iframe>
<script>onload = () => {{ const d = document.getElementById("f").contentDocument.documentElement;
document.title = d.scrollWidth + " of " + d.clientWidth; }}</script>"""

BROWSERS = "not an origin"  # initiator of Chromium's own requests, such as for the time

pytestmark = [
    pytest.mark.slow,  # a browser
    pytest.mark.skipif(BROWSER is None, reason="Debian's package chromium is not installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    source = write_export(folder / "source", [person(n) for n in range(4)], dose_pages=1)
    damaged = source / "dicom" / "STU00001" / "IM0000"
    damaged.write_bytes(damaged.read_bytes()[:-3000])
    (source / "dicom" / "<b>not a tag<script>alert(1)<").mkdir()
    shutil.copy(damaged, source / "dicom" / "<b>not a tag<script>alert(1)<" / "1.dcm")
    run(source, folder / "out")
    return folder / "out" / PAGE


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Open a page; return its DOM, and what Chromium logged."""

    def open_page(page: Path, *flags: str) -> tuple[str, str]:
        ended = subprocess.run(
            [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path / 'user'}", *flags, page.as_uri()],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ended.stdout, ended.stderr

    return open_page


def requests_of_the_page(log: Path) -> list[str]:
    """URLs that the page asked for, of Chromium's log of the network; not those of Chromium."""
    found = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return [
        one["url"] for one in found if "url" in one and one.get("initiator") not in (None, BROWSERS)
    ]


def test_it_loads_nothing_and_logs_nothing(
    page: Path, tmp_path: Path, browse: Callable[..., tuple[str, str]]
) -> None:
    log = tmp_path / "net.json"
    dom, logged = browse(page, f"--log-net-log={log}", "--dump-dom")
    assert "CONSOLE" not in logged
    for text in ("Ingest report", "To look at", "unreadable", "As expected", "for-processing"):
        assert text in dom
    assert dom.count("<figure>") == 12
    assert "<script" not in dom
    assert "&lt;script&gt;alert(1)&lt;/1.dcm" in dom
    assert requests_of_the_page(log) == []


def test_the_check_can_fail(tmp_path: Path, browse: Callable[..., tuple[str, str]]) -> None:
    other, log = tmp_path / "other.html", tmp_path / "net.json"
    other.write_text('<img src="http://127.0.0.1:9/pixel.png"><script>nothing()</script>')
    _, logged = browse(other, f"--log-net-log={log}", "--dump-dom")
    assert "CONSOLE" in logged
    assert requests_of_the_page(log) == ["http://127.0.0.1:9/pixel.png"]


def test_it_fits_a_telephone(
    page: Path, tmp_path: Path, browse: Callable[..., tuple[str, str]]
) -> None:
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri()))
    dom, _ = browse(frame, "--allow-file-access-from-files", "--dump-dom")
    (title,) = re.findall("<title>(.*)</title>", dom)
    width, _, shown = title.partition(" of ")
    assert 300 < int(width) == int(shown) < 376
