"""Secure rounds end to end: the same model as without, and lost rounds end no run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from mama.errors import ConfigError, QuorumError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode
from mama.exchange.secagg.quantise import step
from mama.exchange.update import VARIATE
from server.run.events import Event, TaskSent
from server.run.folder import RunFolder
from sim.engines.keys import introduce
from sim.run import Callbacks, federate

SECURE = "privacy.secure={threshold: 2, bits: 24, limit: 0.5}"
ONE_ROUND = "federation.rounds=1"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _drawn_as_plain_runs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are those of the plain run that a secure one is compared with."""
    monkeypatch.setattr("client.training.tasks.stream_of", lambda site, *_: site.site)


@pytest.fixture
def sites(site_files: Callable[..., list[Path]]) -> Callable[..., list[Path]]:
    """Sites that know each other; a fourth one has the third one's studies."""

    def make(name: str, number: int = 3) -> list[Path]:
        files = site_files(name)
        if number == 4:
            fourth = shutil.copytree(files[2].parent, files[2].parent.with_name("dogwood"))
            settings = yaml.safe_load((fourth / "site.yaml").read_text())
            (fourth / "site.yaml").write_text(yaml.safe_dump(settings | {"site": "dogwood"}))
            files.append(fourth / "site.yaml")
        introduce({path.parent.name: path for path in files})
        return files

    return make


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def newest(folder: Path) -> Arrays:
    return RunFolder(folder).latest().arrays


def on(wave: str, do: Callable[[], None]) -> Callbacks:
    """Do something when the first round's wave begins."""

    def listen(event: Event) -> None:
        if isinstance(event, TaskSent) and (event.task, event.round) == (wave, 1):
            do()

    return Callbacks(event=listen)


@pytest.mark.parametrize("method", [[], ["strategy.scaffold=true"]])
def test_a_round_is_a_plain_one_but_for_the_rounding(
    small_config: Callable[..., Any],
    sites: Callable[..., list[Path]],
    tmp_path: Path,
    method: list[str],
) -> None:
    for name, extra in (("plain", []), ("secure", [SECURE])):
        experiment = small_config(ONE_ROUND, *method, *extra).experiment()
        metrics = federate(experiment, sites(f"{name}-sites"), tmp_path / name)
        assert (metrics["status"], metrics["problems"]) == ("finished", [])
    before = RunFolder(tmp_path / "plain").path / "checkpoints" / "round-0000" / "model.safetensors"
    start = decode(before.read_bytes())
    plain, secure = newest(tmp_path / "plain"), newest(tmp_path / "secure")
    assert set(plain) == set(secure)
    assert any(name.startswith(VARIATE) for name in plain) == bool(method)
    for name in plain:
        moved = np.abs(plain[name] - start[name]).max()
        rounding = step(10 if name.startswith(VARIATE) else 0.5, 24)
        rounding += 4e-7 * np.abs(plain[name]).max()
        assert np.abs(plain[name] - secure[name]).max() <= rounding, name
        assert not name.startswith("image") or moved > 100 * rounding, name


def test_rounds_follow_each_other(
    small_config: Callable[..., Any], sites: Callable[..., list[Path]], tmp_path: Path
) -> None:
    experiments = [small_config(*extra).experiment() for extra in ([], [SECURE])]
    for name, experiment in zip(("plain", "secure"), experiments, strict=True):
        metrics = federate(experiment, sites(f"{name}-sites"), tmp_path / name)
        assert (metrics["status"], metrics["problems"]) == ("finished", [])
    plain, secure = newest(tmp_path / "plain"), newest(tmp_path / "secure")
    for name in plain:
        # A step of quantisation in the first round, which AdamW may carry on, and one in the
        # second.
        assert np.abs(plain[name] - secure[name]).max() < 2e-3, name
    for path in (tmp_path / "secure-sites").glob("*/state/runs/*/secure"):
        assert not (path / "waves").exists()
    for path in (tmp_path / "secure-sites").glob("*/privacy/unmasked"):
        kept = [json.loads(line.split(" ", 1)[1])["round"] for line in path.open()]
        assert kept == [1, 2]
    values = sum(array.size for array in secure.values())
    rounds = [e for e in events(tmp_path / "secure") if e["event"] == "round"]
    # What a site sends is one word a value, and a little beside it.
    assert all(
        4 * values < up < 4 * values + 20_000 for e in rounds for up in e["bytes_up"].values()
    )
    assert {norm for e in rounds for norm in e["norms"].values()} == {None}


def test_a_site_that_is_lost_after_its_shares_is_left_out_of_the_mean(
    small_config: Callable[..., Any], sites: Callable[..., list[Path]], tmp_path: Path
) -> None:
    files = sites("sites", 4)
    secure = SECURE.replace("threshold: 2", "threshold: 3")
    experiment = small_config(ONE_ROUND, "participation.quorum=3", secure).experiment()

    def lose() -> None:
        (waves,) = files[0].parent.glob("state/runs/*/secure/waves")
        shutil.rmtree(waves)

    metrics = federate(experiment, files, tmp_path / "run", callbacks=on("mask", lose))
    assert [(p["site"], p["code"]) for p in metrics["problems"]] == [("alder", "bad_request")]
    updates = [
        load_file(path)
        for file in files[1:]
        for path in file.parent.glob("state/runs/*/secure/update.safetensors")
    ]
    assert len(updates) == 3
    start = decode(
        (tmp_path / "run" / "checkpoints" / "round-0000" / "model.safetensors").read_bytes()
    )
    for name, array in newest(tmp_path / "run").items():
        expected = start[name] + np.mean([update[name] for update in updates], axis=0)
        rounding = step(0.5, 24) + 4e-7 * np.abs(array).max()
        assert np.abs(array - expected).max() <= rounding, name


@pytest.mark.parametrize("wave", ["share", "unmask"])
def test_a_coordinator_that_dies_between_waves_begins_them_anew(
    small_config: Callable[..., Any], sites: Callable[..., list[Path]], tmp_path: Path, wave: str
) -> None:
    experiment, files = small_config(ONE_ROUND, SECURE).experiment(), sites("sites")

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        federate(experiment, files, tmp_path / "run", callbacks=on(wave, die))
    metrics = federate(experiment, files, tmp_path / "run")
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
    federate(small_config(ONE_ROUND).experiment(), sites("others"), tmp_path / "plain")
    plain, secure = newest(tmp_path / "plain"), newest(tmp_path / "run")
    assert max(float(np.abs(plain[n] - secure[n]).max()) for n in plain) < 1e-6


def test_patient_level_privacy_goes_with_it(
    small_config: Callable[..., Any], sites: Callable[..., list[Path]], tmp_path: Path
) -> None:
    private = "privacy.mode=patient", "privacy.slots=8", "privacy.group_size=2"
    secure = SECURE.replace("limit: 0.5", "limit: 0.9")
    experiment = small_config(ONE_ROUND, secure, *private, "strategy.weights=uniform")
    metrics = federate(experiment.experiment(), sites("sites"), tmp_path / "run")
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
    assert set(metrics["privacy"]["sites"]) == {"alder", "birch", "cedar"}


def test_a_lost_round_does_not_end_the_run(
    small_config: Callable[..., Any], sites: Callable[..., list[Path]], tmp_path: Path
) -> None:
    files = sites("sites")

    def lose() -> None:
        for file in files[:2]:
            (waves,) = file.parent.glob("state/runs/*/secure/waves")
            shutil.rmtree(waves)

    experiment = small_config(SECURE).experiment()
    metrics = federate(experiment, files, tmp_path / "run", callbacks=on("mask", lose))
    assert metrics["status"] == "finished"
    lost = [event["lost"] for event in events(tmp_path / "run") if event["event"] == "round"]
    assert lost == [True, False]
    sent = [
        json.loads(line) for line in (tmp_path / "run" / "audit.jsonl").read_text().splitlines()
    ]
    masked = {e["site"] for e in sent if e["task"].startswith("mask-2-") and e["bytes"] > 4000}
    assert masked == {"alder", "birch", "cedar"}


def test_a_run_whose_every_round_is_lost_does_not_call_itself_finished(
    small_config: Callable[..., Any], sites: Callable[..., list[Path]], tmp_path: Path
) -> None:
    files = sites("sites")
    (files[0].parent / "roster.json").write_text("{}")  # it knows nobody, so it does not join
    experiment = small_config(SECURE).experiment()
    with pytest.raises(QuorumError, match="none of the 2 rounds"):
        federate(experiment, files, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["status"] == "stopped"
    assert not (tmp_path / "run" / "final").exists()
    # Two sites are a quorum, but fewer than a site wants.
    assert {p["code"] for p in metrics["problems"]} == {"site_file", "secure_terms", "round_lost"}
    lost = [p for p in metrics["problems"] if p["code"] == "round_lost"]
    assert [p["round"] for p in lost] == [1, 2]
    assert "0 of at least 2 sites sent shares" in lost[0]["problem"]
    start = decode(
        (tmp_path / "run" / "checkpoints" / "round-0001" / "model.safetensors").read_bytes()
    )
    assert all((array == start[name]).all() for name, array in newest(tmp_path / "run").items())


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["exchange.up=int8"], "their own encoding"),
        (["participation.quorum=1"], "threshold"),
        (["privacy.mode=site", "strategy.weights=uniform"], "hides from it"),
        (["participation.late=next_round"], "another round"),
        (["strategy.fairness=1"], "loss"),
        (["strategy.norm_limit=2"], "the norm of a single update is hidden"),
        (["participation.budget_s=60"], "partial"),
        (
            [
                "strategy.aggregator={kind: median}",
                "participation.quorum=3",
                "strategy.weights=uniform",
            ],
            "sum",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    small_config: Callable[..., Any], overrides: list[str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        small_config(SECURE, *overrides)
