"""`mama-site clean`: removes states of ended runs, models by name alone; limits stay."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli import main
from client.handlers import answer
from client.site.config import SiteFile, load_site
from client.site.final_models import finals
from client.training.clean import BY_ROUND, WHOLE, clean
from mama.errors import ConfigError, IntegrityError, ServiceError
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.system.formats import size as size_of
from mama.system.locks import at_work_in

SMALL = ("lineage.json", "ledger_head", "unmasked_seal", "roster.json", "secure/salt")
MB = 2**20


def files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, but for locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != "lock"
    }


@pytest.fixture
def site(site_file: Path, make_task: Callable[..., Task], payload: bytes) -> SiteFile:
    """A site with two runs that ended, `one` and `other`, and one, `open`, that did not."""
    found = load_site(site_file)
    for run in ("one", "other", "open"):
        answer(found, make_task("train", run=run).encode(), payload)
        if run != "open":
            finish(found, make_task, run, payload)
        folder = found.run_folder(run)
        for part in BY_ROUND:
            (folder / part).mkdir(exist_ok=True)
            (folder / part / "round-000001.safetensors").write_bytes(bytes(MB))
        for name in ("ledger_head", "unmasked_seal", "roster.json", *WHOLE):
            if not (folder / name).exists() and name not in ("open_round", "secure/waves"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(b"x" * 100)
        for name in ("open_round/a", "secure/waves/a", "secure/salt"):
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_bytes(b"x" * 100)
    return found


def finish(site: SiteFile, make_task: Callable[..., Task], run: str, payload: bytes) -> Any:
    task = make_task("finish", run=run, round=2, task="finish-2-alder")
    return answer(site, task.encode(), payload)[0].status


def test_ended_runs_are_cleaned_and_everything_else_stays(
    site: SiteFile, site_file: Path, command: Callable[..., Any]
) -> None:
    runs = site.state / "runs"
    before, elsewhere = files(runs), files(site.privacy) | files(site.state / "service")
    sizes = {path: (runs / path).stat().st_size for path in before}
    ended = command(main, "clean", site_file)
    assert (ended.code, ended.err) == (0, "")
    left = files(runs)
    kept = ("final/", *SMALL)
    for run in ("one", "other"):
        own = {path.removeprefix(f"{run}/") for path in before if path.startswith(f"{run}/")}
        there = {path.removeprefix(f"{run}/") for path in left if path.startswith(f"{run}/")}
        assert set(SMALL) <= own
        assert {path for path in own if path.startswith(kept)} <= there
        # Beside them the rounds' index, and the mark that the site took part.
        rest = {path for path in there if not path.startswith(kept)}
        assert rest <= {"states.json", "last_answer.safetensors"}
        assert (runs / run / "last_answer.safetensors").stat().st_size == 0
    same = [p for p in left if p.startswith("open/") or p.split("/", 1)[1].startswith(kept)]
    assert {path: left[path] for path in same} == {path: before[path] for path in same}
    assert {p for p in before if p.startswith("open/")} <= set(left)
    assert files(site.privacy) | files(site.state / "service") == elsewhere
    gone = sum(size for path, size in sizes.items() if path not in left)
    gone += sum(sizes[f"{run}/last_answer.safetensors"] for run in ("one", "other"))
    assert gone > 8 * MB
    lines = ended.out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["one", "other"]
    assert lines[2] == f"freed {size_of(gone)}"
    assert lines[3].startswith("final models kept: 2, ")
    assert command(main, "clean", site_file).out.startswith("freed 0 bytes\n")


def test_a_model_goes_by_its_runs_name_alone(
    site: SiteFile, site_file: Path, make_task: Callable[..., Task], payload: bytes, command: Any
) -> None:
    clean(site)
    assert finish(site, make_task, "one", payload) == "ok"  # handed out again, it is there
    ended = command(main, "clean", site_file, "--run", "on")
    assert ended.out.splitlines()[0].startswith("one: ")
    assert "final" in ended.out.splitlines()[0]
    assert [record.run for _, record, _ in finals(site.state)] == ["other"]
    assert finish(site, make_task, "one", payload) == ErrorCode.POLICY_PLAN
    assert finish(site, make_task, "other", payload) == "ok"


@pytest.mark.parametrize(
    ("run", "why"),
    [("open", "has not ended"), ("o", "several runs"), ("absent", "no run"), ("../one", "no run")],
)
def test_a_run_that_cannot_be_cleaned(site: SiteFile, run: str, why: str) -> None:
    before = files(site.state)
    with pytest.raises(ConfigError, match=why):
        clean(site, run)
    assert files(site.state) == before


def test_a_task_at_work_or_a_damaged_record_stops_it(site: SiteFile) -> None:
    before = files(site.state)
    with at_work_in(site.run_folder("one")), pytest.raises(ServiceError):
        clean(site)
    record = site.privacy / "sent.jsonl"
    record.write_bytes(record.read_bytes().replace(b'"finish"', b'"others"', 1))
    with pytest.raises(IntegrityError):
        clean(site)
    assert files(site.state) == before


def test_a_cleaned_run_still_takes_no_second_model_for_a_round(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> None:
    site = load_site(edit(policy={"max_model_step": 10.0}))
    first = decode(payload)

    def model(moved: float) -> bytes:
        return encode({name: array + np.float32(moved) for name, array in first.items()})

    def second_round(moved: float) -> object:
        task = make_task("train", run="one", round=2, task="train-2-alder")
        return answer(site, task.encode(), model(moved))[0].status

    assert answer(site, make_task("train", run="one").encode(), payload)[0].status == "ok"
    assert second_round(1e-5) == "ok"
    task = make_task("finish", run="one", round=2, task="finish-2-alder")
    assert answer(site, task.encode(), model(2e-5))[0].status == "ok"
    clean(site)
    assert second_round(3e-5) == ErrorCode.MODEL_STEP
    # It would be taken if the checksums had gone with the rest.
    (site.run_folder("one") / "lineage.json").unlink()
    assert second_round(3e-5) == "ok"
