"""Last model of a run at a site: whole, usable, listed by hash; interrupted ones are not."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli import main
from client.handlers import answer
from client.site.config import load_site
from client.site.final_models import RECORD, finals
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import decode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.exchange.tensors import trained_arrays
from mama.final.saved import load_final


@pytest.fixture
def finish(make_task: Callable[..., Task], site_file: Path, payload: bytes) -> Callable[[str], str]:
    """The header of a run's last task, after a round of it."""

    def make(run: str) -> str:
        answer(load_site(site_file), make_task("train", run=run).encode(), payload)
        return make_task("finish", run=run, round=2, task="finish-2-alder").encode()

    return make


def test_the_last_model_is_kept_whole(
    site_file: Path, finish: Callable[[str], str], payload: bytes, experiment: Any
) -> None:
    site = load_site(site_file)
    times = set()
    for _ in range(2):  # asked again, it stays
        reply, block = answer(site, finish("run-1"), payload)
        assert (reply.status, reply.final, block) == ("ok", digest_of(payload), b"")
        ((folder, record, size),) = finals(site.state)
        assert folder == site.state / "runs" / "run-1" / "final"
        assert (record.run, record.rounds, record.experiment) == ("run-1", 2, experiment.name)
        assert record.model == digest_of(payload)
        weights = (folder / "model.safetensors").stat()
        assert size > weights.st_size
        times.add(weights.st_mtime_ns)
    assert len(times) == 1
    model, known = load_final(folder)
    assert known == experiment
    sent = decode(payload)
    for name, array in trained_arrays(model).items():
        np.testing.assert_array_equal(array, sent[name])


def test_one_that_was_not_finished_is_not_listed(
    site_file: Path,
    finish: Callable[[str], str],
    payload: bytes,
    in_child: Callable[..., int | bytes],
) -> None:
    site = load_site(site_file)

    def die() -> bytes:
        def replace(source: str, target: str) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace  # type: ignore[assignment]
        return answer(site, finish("run-1"), payload)[0].encode().encode()

    assert in_child(die) == signal.SIGKILL
    assert finals(site.state) == []
    answer(site, finish("run-1"), payload)
    assert len(finals(site.state)) == 1


def test_the_command_lists_them(
    site_file: Path, finish: Callable[[str], str], payload: bytes, command: Callable[..., Any]
) -> None:
    assert command(main, "models", site_file).out == "no run has finished yet\n"
    site = load_site(site_file)
    for run in ("run-1", "run-2"):
        answer(site, finish(run), payload)
    ended = command(main, "models", site_file)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count(f"sha256 {digest_of(payload)}") == 2
    rows = json.loads(command(main, "models", site_file, "--json").out)
    assert [row["run"] for row in rows] == ["run-1", "run-2"]
    assert all(row["bytes"] > 1000 and row["finished"].endswith("+00:00") for row in rows)
    (site.state / "runs" / "run-1" / "final" / RECORD).write_text("{}")
    assert len(json.loads(command(main, "models", site_file, "--json").out)) == 1


def test_the_last_model_of_a_run_without_a_round_here_is_refused(
    site_file: Path, make_task: Callable[..., Task], payload: bytes
) -> None:
    site = load_site(site_file)
    reply, _ = answer(site, make_task("finish", run="never").encode(), payload)
    assert reply.status == ErrorCode.POLICY_PLAN
    assert finals(site.state) == []


def test_the_newest_models_stay(
    site_file: Path, finish: Callable[[str], str], payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.site.final_models.KEPT", 2)
    site = load_site(site_file)
    for run in ("a", "b", "c"):
        answer(site, finish(run), payload)
    assert [record.run for _, record, _ in finals(site.state)] == ["b", "c"]
    assert not (site.state / "runs" / "a" / "final").exists()
    answer(site, finish("a"), payload)  # the run's own always stays
    assert {record.run for _, record, _ in finals(site.state)} == {"a", "c"}


def test_the_optimisers_states_go_with_the_end_of_a_run_and_another_runs_stay(
    site_file: Path, finish: Callable[[str], str], make_task: Callable[..., Task], payload: bytes
) -> None:
    site = load_site(site_file)
    header = finish("run-1")
    answer(site, make_task("train", run="run-2").encode(), payload)
    assert list((site.run_folder("run-1") / "optimiser").iterdir())
    assert answer(site, header, payload)[0].status == "ok"
    assert not (site.run_folder("run-1") / "optimiser").exists()
    assert list((site.run_folder("run-2") / "optimiser").iterdir())
    # A coordinator that goes on all the same is answered; what was done before is not done again.
    again, update = answer(site, make_task("train", run="run-1").encode(), payload)
    assert (again.status, len(update) > 1000) == ("ok", True)
    assert answer(site, header, payload)[0].status == "ok"
