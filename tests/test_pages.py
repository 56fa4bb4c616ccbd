"""docs/reference.md, upgrade.md, leaving.md, logs.md and the labels of site.md say what is so."""

import csv
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from client.cli import main as site_main
from client.service.status import ServiceFolder
from client.site.config import SiteFile, load_site
from client.site.dataset import dataset_of
from docs.make_reference import FILES, reference
from mama.config import Experiment
from mama.data.adapters import ADAPTERS
from mama.data.adapters.notes import NOTES
from mama.data.adapters.report_table import KNOWN
from mama.data.dicom.reasons import REASONS
from mama.data.ingest.report import WITH_REMARKS
from mama.evaluation.pooling import MINIMUM
from mama.system.supervise import log_to
from server.federation.home import FederationFile

DOCS = Path(__file__).parents[1] / "docs"


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", read(page), re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_the_reference_is_what_the_models_are() -> None:
    assert read("reference.md") == reference()


def test_every_key_is_in_it_once_a_kind() -> None:
    """Counted from the models' JSON schemas, not by the generator's own walk."""
    parts = reference().split("\n## ")[1:]
    assert len(parts) == len(FILES)
    for part, (title, _, model) in zip(parts, FILES, strict=True):
        assert part.startswith(title)
        schema = model.model_json_schema()
        top = re.findall(r"^\| `([a-z_]+)` \|", part, re.M)
        assert top == list(schema["properties"])
        rows = re.findall(r"^\| `[^`]+` \| [^|]+ \| [^|]+ \| (\S.*) \|$", part, re.M)
        assert len(rows) == len(re.findall(r"^\| `", part, re.M))
        for section in schema.get("$defs", {}).values():
            for key in section.get("properties", {}):
                assert re.search(rf"^\| `[a-z_.\[\]]*\.{key}` \|", part, re.M), key


@pytest.mark.parametrize("model", [Experiment, SiteFile, FederationFile])
def test_defaults_are_those_of_the_model(model: type[BaseModel]) -> None:
    part = next(
        p
        for p in reference().split("\n## ")
        if p.startswith(next(title for title, _, kind in FILES if kind is model))
    )
    for key, field in model.model_fields.items():
        (default,) = re.findall(rf"^\| `{key}` \| [^|]+ \| ([^|]+) \|", part, re.M)
        assert (default == "**needed**") == field.is_required()


def test_the_defaults_of_a_section_are_those_that_it_has_there() -> None:
    assert re.search(r"`loss.local.start` \| [^|]+ \| `0.2` \|", reference())
    assert re.search(r"`loss.image_text.start` \| [^|]+ \| `0.0` \|", reference())


@pytest.mark.parametrize("page", ["upgrade.md", "leaving.md", "logs.md", "reference.md"])
def test_links_lead_somewhere(page: str) -> None:
    for link, anchor in re.findall(r"\]\(([a-z_]+\.md)(?:#([a-z-]+))?\)", read(page)):
        headings = re.findall(r"^#+ (.*)$", read(link), re.M)
        known = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in known, (page, link, anchor)


@pytest.fixture
def folder(
    site_files: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with the hospital's folder `site`, as the pages call it."""
    monkeypatch.chdir(tmp_path)
    before = site_files("sites")[0]
    source = load_site(before).data.source
    site = tmp_path / "site"
    shutil.copytree(before.parent, site)
    settings = yaml.safe_load((site / "site.yaml").read_text(encoding="utf-8"))
    settings["data"]["source"] = str(source)
    settings |= {"state": "state", "privacy": "privacy"}
    (site / "site.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for name in ("node.key", "privacy/ledger", "state/service/site.log"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("kept\n", encoding="utf-8")
    return tmp_path


def type_(line: str, command: Callable[..., Any]) -> Any:
    program, *words = shlex.split(line)
    if program == "mama-site":
        return command(site_main, *words)
    return subprocess.run([program, *words], check=True, capture_output=True, text=True)


def test_upgrading(folder: Path, command: Callable[..., Any]) -> None:
    policy, check = commands("upgrade.md")
    assert type_(policy, command).code == 0
    ended = type_(check, command)
    assert "PASS  studies" in ended.out
    assert "Traceback" not in ended.err


def test_leaving(folder: Path, command: Callable[..., Any]) -> None:
    revoke, models, remove = commands("leaving.md")
    assert revoke == "mama-server revoke alder"
    assert type_(models, command).code == 0
    type_(remove, command)
    left = {path.name for path in (folder / "site").iterdir()}
    assert {"privacy", "secret.key", "site.yaml"} <= left
    assert not {"node.key", "state", "dataset"} & left
    ended = type_("mama-site report site/site.yaml nothing", command)
    assert ended.code != 0
    assert ended.err.count("\n") == 1


def test_logs(folder: Path, command: Callable[..., Any]) -> None:
    (tail,) = commands("logs.md")
    assert type_(tail, command).stdout == "kept\n"
    text, site = read("logs.md"), load_site(folder / "site" / "site.yaml")
    assert f"`{ServiceFolder(site).log.relative_to(folder)}`" in text
    (handler,) = log_to(folder / "x.log", "a test of the page").handlers
    assert handler.maxBytes == 10 * 2**20  # type: ignore[attr-defined]
    assert handler.backupCount == 5  # type: ignore[attr-defined]
    handler.close()
    assert "at 10 MiB" in text
    assert "five older ones" in text


def test_the_labels_of_the_page_give_figures(folder: Path, command: Callable[..., Any]) -> None:
    (block,) = re.findall(r"```csv\n(.*?)```", read("site.md"), re.S)
    header, *rows = csv.reader(block.splitlines())
    assert set(header) <= set(KNOWN)
    source = load_site(folder / "site" / "site.yaml").data.source
    with open(source / "reports.csv", encoding="utf-8", newline="") as handle:
        studies = [row["study"] for row in csv.DictReader(handle)]
    own = folder / "archive"
    own.mkdir()
    (own / "dicom").symlink_to(source / "dicom" if (source / "dicom").is_dir() else source)
    # The page's rows, again and again, with the studies that are here.
    with open(own / "reports.csv", "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(header)
        for number, study in enumerate(studies):
            table.writerow([study, *rows[number % len(rows)][1:]])
    path = folder / "site" / "site.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["data"]["source"] = str(own)
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.rmtree(folder / "site" / "dataset")
    (folder / "site" / "secret.key").unlink()
    ended = command(site_main, "ingest", path, "--long-side", 96)
    # One report with a measurement stands at several patients here, which the audit remarks on.
    assert ended.code == WITH_REMARKS, ended.err
    assert "same-report" in ended.out
    found = dataset_of(load_site(path))
    test = found.studies("test")
    assert {study.labels.density for study in test} == {"B"}
    assert {str(study.labels.suspicious) for study in test} == {"{'L': True, 'R': False}"}
    breasts = [truth for study in test for truth in (study.labels.suspicious or {}).values()]
    assert min(breasts.count(True), breasts.count(False)) >= MINIMUM
    ended = command(site_main, "check", path)
    (line,) = [line for line in ended.out.splitlines() if line[6:].startswith("labels")]
    assert line.startswith("PASS")


def test_the_page_of_the_data_lists_every_reason_and_remark() -> None:
    page = read("data.md")
    for code, (what, fix) in {**REASONS, **NOTES}.items():
        assert f"| `{code}` | {what} | {fix} |" in page, code
    for adapter in ADAPTERS:
        assert f"`{adapter}`" in page or adapter == "dicom_folder"
