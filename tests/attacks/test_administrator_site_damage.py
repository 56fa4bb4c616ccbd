"""Damage to the files of a site's folders, one at a time, in the middle of a run.

Whatever the damage is, there is no traceback, and what the site sends afterwards is what an
undamaged one would have sent, or a code. Only an optimiser's moments may be lost, which the site's
log tells.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from client.cli import main
from client.handlers import answer
from client.privacy.round import site_ledger
from client.site.config import load_site
from mama.config import Experiment
from mama.errors import ConfigError
from mama.exchange.codecs.coding import encode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from mama.exchange.secagg.messages import Advertisement, Advertisements, Packets, Roll, Terms
from mama.exchange.update import initial_arrays
from mama.model import build_model
from sim.engines.keys import introduce
from tests.attacks.campaign import cases
from tests.attacks.damage import DAMAGES, spoil
from tests.attacks.power import Power

REQUESTED = (
    "federation={rounds: 3, local_steps: 2}",
    "participation.deadline_s=300",
    "strategy={scaffold: true, local: ['*norm*'], weights: uniform}",
    "exchange.up=int8",
)
PRIVACY = (
    "privacy={mode: patient, epsilon: 6, delta: 1.0e-5, group_size: 2, sample_rate: 0.5, "
    "max_grad_norm: 0.5, slots: 8}"
)


class Hospital(NamedTuple):
    """A site in the middle of a run."""

    path: Path
    experiment: Experiment
    model: bytes

    def ask(
        self, kind: Any, number: int, on_step: Any = None, *, payload: bytes | None = None
    ) -> tuple[Answer, bytes]:
        """Its answer to a task; with the model, where there is no other payload."""
        task = Task(
            run="run-1",
            round=number,
            task=f"{kind}-{number}",
            kind=kind,
            experiment=self.experiment.canonical_json(),
            experiment_hash=self.experiment.hash(),
        )
        if payload is None:
            payload = b"" if kind == "describe" else self.model
        return answer(load_site(self.path), task.encode(), payload, on_step)

    def copy(self, to: Path) -> "Hospital":
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.path.parent, to)
        return self._replace(path=to / self.path.name)


def in_a_run(path: Path, experiment: Experiment) -> Hospital:
    """A site whose machine went off in its second round."""
    model = encode(initial_arrays(build_model(experiment), experiment.strategy))
    site = Hospital(path, experiment, model)
    for kind, number in (("describe", 0), ("train", 1)):
        reply, _ = site.ask(kind, number)
        assert reply.status == "ok"

    taken: list[int] = []

    def off(name: str, step: int) -> None:
        taken.append(step)
        if len(taken) == 2:  # the first is on the disk
            raise Power

    if experiment.privacy.mode != "patient":
        path.write_text(path.read_text() + "checkpoint_s: 0\n")
        with pytest.raises(Power):
            site.ask("train", 2, off)
    return site


def files_of(folder: Path) -> list[Path]:
    """All but the pictures of most studies."""
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [path for path in found if path.suffix != ".npy"] + [
        path for path in found if path.suffix == ".npy"
    ][:3]


CODES = {
    *(ErrorCode.NO_DATA, ErrorCode.POLICY_WEAKER, ErrorCode.BASE_MODEL, ErrorCode.RECORDS),
    *(ErrorCode.SITE_FILE, ErrorCode.LEDGER, ErrorCode.BAD_REQUEST, ErrorCode.SENT_RECORD),
}
# What a run can do without, at the price of a round's convergence.
HELPERS = {"optimiser", "residual", "variate"}
Step = Callable[[Hospital], tuple[Answer, bytes]]


def steps(*kinds_and_rounds: tuple[str, int]) -> list[Step]:
    return [lambda site, step=step: site.ask(*step) for step in kinds_and_rounds]


class Cases:
    """Yield damaged copies of a site: each file by each damage, as often as there are cases."""

    def __init__(self, tmp_path: Path, log: pytest.LogCaptureFixture, *, alike: bool = True):
        self.tmp_path, self.log, self.alike = tmp_path, log, alike
        self.outcomes: Counter[str] = Counter()

    def run(self, site: Hospital, steps: list[Step], count: int) -> Counter[str]:
        whole = site.copy(self.tmp_path / "whole")
        wanted = [step(whole) for step in steps]
        assert [reply.status for reply, _ in wanted] == ["ok"] * len(steps)
        draw = Random(1)
        plan = [(file, damage) for file in files_of(site.path.parent) for damage in DAMAGES]
        draw.shuffle(plan)
        for number in range(count):
            file, damage = plan[number % len(plan)]
            copy = site.copy(self.tmp_path / "damaged")
            spoil(copy.path.parent / file, damage, draw)
            self.log.clear()
            outcome = self._outcome(copy, steps, wanted)
            self.outcomes[outcome] += 1
            case = f"{file}, {damage.__name__}: {outcome}"
            assert outcome in {"same", "lost"} | CODES, case
            if outcome == "lost":
                assert set(file.parts) & HELPERS, case
                assert self._warned(), case
        return self.outcomes

    def _outcome(
        self, site: Hospital, steps: list[Step], wanted: list[tuple[Answer, bytes]]
    ) -> str:
        """`same`, the first code, or `lost` where something else than wanted was sent."""
        for step, (reply, block) in zip(steps, wanted, strict=True):
            try:
                found, sent = step(site)
            except ConfigError:  # of the site file, which the app answers with a code
                return ErrorCode.SITE_FILE
            if found.status != "ok":
                return found.status
            if self.alike and (sent, found.evaluation) != (block, reply.evaluation):
                return "lost"
        return "same"

    def _warned(self) -> bool:
        return any(record.levelno == logging.WARNING for record in self.log.records)


def a_run(site: Hospital, tmp_path: Path, log: Any, count: int) -> Counter[str]:
    after = steps(("train", 1), ("train", 2), ("evaluate", 2), ("finish", 2))
    return Cases(tmp_path, log).run(site, after, count)


@pytest.fixture
def in_round_2(site_files: Callable[..., list[Path]], small_config: Any) -> Hospital:
    return in_a_run(site_files()[0], small_config(*REQUESTED).experiment())


def test_some_damaged_sites(
    in_round_2: Hospital, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert a_run(in_round_2, tmp_path, caplog, 6)["same"] > 0


@pytest.mark.slow
def test_many_damaged_sites(
    in_round_2: Hospital, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = a_run(in_round_2, tmp_path, caplog, cases(240))
    assert outcomes["same"] > cases(80)
    assert outcomes["lost"] > 0


@pytest.mark.slow
def test_many_damaged_private_sites(
    site_files: Callable[..., list[Path]],
    small_config: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The noise is new each time: only codes and the ledger's counts can be compared."""
    site = in_a_run(site_files()[0], small_config(PRIVACY).experiment())
    damaged = Cases(tmp_path, caplog, alike=False)

    def paid(at: Hospital) -> tuple[Answer, bytes]:
        answered = at.ask("train", 2)
        if answered[0].status == "ok":
            assert sum(n for *_, n in site_ledger(load_site(at.path)).charges) == 4
        return answered

    outcomes = damaged.run(site, [paid, *steps(("finish", 2))], cases(110))
    assert outcomes["same"] > cases(50)
    assert outcomes[ErrorCode.LEDGER] > 0


@pytest.mark.slow
def test_many_damaged_sites_between_waves(
    site_files: Callable[..., list[Path]],
    small_config: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A site sends its masked update as it would have, or takes no further part."""
    files = {path.parent.name: path for path in site_files()}
    introduce(files)
    experiment = small_config(
        "privacy.secure={threshold: 2, bits: 24, limit: 0.5}", "participation.quorum=3"
    ).experiment()
    model = encode(initial_arrays(build_model(experiment), experiment.strategy))
    sites = {name: Hospital(path, experiment, model) for name, path in files.items()}
    terms = Terms(context="run-1/1/0", threshold=2, bits=24, limit=0.5)
    said, sent = [], {}
    for site in sites.values():
        assert site.ask("train", 1)[0].status == "ok"
        _, block = site.ask("advertise", 1, payload=terms.model_dump_json().encode())
        said.append(Advertisement.model_validate_json(block))
    everyone = Advertisements(terms=terms, sites=said).model_dump_json().encode()
    for name, site in sites.items():
        _, block = site.ask("share", 1, payload=everyone)
        sent[name] = Packets.model_validate_json(block).packets
    alder = sites.pop("alder")
    packets = Packets(packets={name: sent[name]["alder"] for name in sites})
    roll = Roll(survivors=sorted(files), dropped=[])

    masked: list[np.ndarray] = []

    def masks(at: Hospital) -> tuple[Answer, bytes]:
        reply, block = at.ask("mask", 1, payload=packets.model_dump_json().encode())
        if reply.status == "ok":
            masked.append(np.frombuffer(block, "<u4"))
            # Values are rounded up or down by chance.
            assert np.abs((masked[-1] - masked[0]).astype(np.int32)).max() <= 1
        return reply, b""

    def agrees(at: Hospital) -> tuple[Answer, bytes]:
        # A signature is another one each time.
        reply, _ = at.ask("agree", 1, payload=roll.model_dump_json().encode())
        return reply, b""

    outcomes = Cases(tmp_path, caplog).run(alder, [masks, agrees], cases(260))
    assert outcomes["same"] > cases(50)
    assert outcomes[ErrorCode.BAD_REQUEST] > 0


DESK = ("status", "ledger", "policy", "check")


@pytest.mark.slow
@pytest.mark.parametrize("word", DESK)
def test_the_desk_of_a_damaged_site(
    in_round_2: Hospital, tmp_path: Path, command: Callable, word: str
) -> None:
    """The commands say what they can, or end with one line."""
    draw = Random(2)
    for file in files_of(in_round_2.path.parent):
        copy = in_round_2.copy(tmp_path / "damaged")
        spoil(copy.path.parent / file, draw.choice(DAMAGES), draw)
        ended = command(main, word, copy.path)
        assert ended.err.count("\n") <= 1, (file, ended.err)
        assert "Traceback" not in ended.out + ended.err
