"""The round loop: weights, evaluations on the way, and going on after a crash."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mama.config.strategy import SgdConfig
from mama.data.manifest import Dataset, write_manifest
from mama.exchange.codecs.coding import decode
from mama.system.journal import read_chain
from server.round.run import FederatedRun
from server.run.context import RunContext
from server.run.events import Event, RoundDone
from server.run.folder import RunFolder
from sim.engines.inprocess import InProcessGrid
from tests.events import records


def unchanged(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
    return header, data


def keep_training_studies(site_file: Path, number: int) -> None:
    folder = site_file.parent / "dataset"
    manifest = Dataset(folder).manifest
    train = [study for study in manifest.studies if study.split == "train"][:number]
    test = [study for study in manifest.studies if study.split == "test"]
    write_manifest(folder, manifest.model_copy(update={"studies": (*train, *test)}))


def test_the_new_model_is_the_mean_weighted_by_training_studies(
    run_federation, site_files, new_run, small_config, tmp_path
) -> None:
    files = site_files("sites")
    studies = {"alder": 8, "birch": 4, "cedar": 5}
    for path in files:
        keep_training_studies(path, studies[path.parent.name])
    one_round = "federation.rounds=1"
    before = new_run(small_config(one_round).experiment(), tmp_path / "before").latest().arrays
    outcome = run_federation(unchanged, one_round, files=files)

    sent = {site: outcome.sent[site, "train", 1] for site in studies}
    assert {s: header["training"]["studies"] for s, (header, _) in sent.items()} == studies
    updates = {site: decode(data) for site, (_, data) in sent.items()}
    after = outcome.folder.latest().arrays
    assert set(after) == set(before)
    for name, array in after.items():
        mean = sum(n * updates[site][name].astype(np.float64) for site, n in studies.items()) / 17
        np.testing.assert_allclose(array, before[name] + mean, rtol=0, atol=1e-6, err_msg=name)
    assert any(np.abs(updates["alder"][name]).max() > 1e-4 for name in updates["alder"])

    terms = {s: header["training"]["terms"]["loss"] for s, (header, _) in sent.items()}
    (event,) = outcome.rounds
    assert event["terms"]["loss"] == pytest.approx(np.median(list(terms.values())))
    for site, (header, data) in sent.items():
        assert event["sites"][site] == header["training"]
        assert len(data) < event["bytes_up"][site] < len(data) + 2000


def test_evaluations_on_the_way_have_no_probes_and_the_last_has(run_federation) -> None:
    outcome = run_federation(
        unchanged,
        "federation.rounds=4",
        "federation.local_steps=1",
        "federation.evaluate_every=2",
    )

    evaluations = [event for event in outcome.events if event["event"] == "evaluation"]
    assert [event["round"] for event in evaluations] == [2, 4]
    assert list(evaluations[0]["federated"]) == ["zero_shot"]
    assert list(evaluations[1]["federated"]) == ["zero_shot", "linear_probe"]
    assert outcome.metrics["evaluation"]["federated"] == evaluations[1]["federated"]
    names = [event["event"] for event in outcome.events]
    assert names.count("update") == 4 * 3
    assert [
        name for name in names if name not in ("asked", "update", "received", "statistics")
    ] == [
        "start",
        "roster",
        "round",
        "round",
        "evaluation",
        "round",
        "round",
        "evaluation",
        "finished",
    ]


def test_listeners_get_what_is_logged(run_federation) -> None:
    outcome = run_federation(unchanged, "federation.rounds=1")
    logged = [{k: v for k, v in e.items() if k != "time"} for e in records(outcome.folder)]
    assert logged == json.loads(json.dumps(outcome.events))


def test_a_crash_between_telling_and_saving_repeats_the_round_to_the_same_end(
    small_config, site_files, new_run, tmp_path
) -> None:
    """Momentum at the server, AdamW's state at the sites, which answer round 2 from disk."""
    experiment = small_config(
        "federation.rounds=3", "strategy.server_optimiser={lr: 0.7, momentum: 0.9}"
    ).experiment()
    assert experiment.strategy.server_optimiser == SgdConfig(kind="sgd", lr=0.7, momentum=0.9)
    from client.app import make_app

    steps: list[tuple[str, int]] = []

    def run(name: str, crash_at: int | None) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        if not folder.path.exists():
            new_run(experiment, folder.path)
        files = sorted((tmp_path / f"sites-{name}").glob("*/site.yaml")) or site_files(
            f"sites-{name}"
        )

        def listener(event: Event) -> None:
            if isinstance(event, RoundDone) and event.round == crash_at:
                raise KeyboardInterrupt

        grid = InProcessGrid(make_app(lambda site, step: steps.append((site, step))), files)
        FederatedRun(grid, RunContext(folder, listener, expected=3, slots=1)).run()
        return folder

    whole = run("whole", None).latest()
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        run("cut", 2)
    assert RunFolder(tmp_path / "cut").latest().round == 1
    cut = run("cut", None)

    assert sorted(steps) == [(s, n) for s in ("alder", "birch", "cedar") for n in range(6)]
    assert cut.latest().round == whole.round == 3
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(array, cut.latest().arrays[name], err_msg=name)
    metrics = json.loads((cut.path / "metrics.json").read_text())
    last = {e["round"]: e for e in records(cut) if e["event"] == "round"}
    assert metrics["timing"]["train_s"] == pytest.approx(sum(e["train_s"] for e in last.values()))


def test_sites_without_test_studies_give_null_and_a_reason(run_federation, site_files) -> None:
    files = site_files("sites")
    for path in files:
        folder = path.parent / "dataset"
        manifest = Dataset(folder).manifest
        train = tuple(study for study in manifest.studies if study.split == "train")
        write_manifest(folder, manifest.model_copy(update={"studies": train}))
    outcome = run_federation(unchanged, "federation.rounds=1", files=files)

    for method in ("zero_shot", "linear_probe"):
        for label in ("density", "suspicious"):
            figures = outcome.metrics["evaluation"]["federated"][method][label]
            assert figures["auc"] is None
            assert "no site has enough" in figures["reason"]
    assert outcome.metrics["status"] == "finished"


def test_every_site_gets_the_last_model_and_says_so(run_federation) -> None:
    outcome = run_federation(unchanged, "federation.rounds=1")
    received = [e["site"] for e in outcome.events if e["event"] == "received"]
    assert received == ["alder", "birch", "cedar"]
    answers = [outcome.sent[site, "finish", 1][0]["final"] for site in received]
    assert {outcome.metrics["model_sha256"]} == set(answers)
    assert outcome.events[-1]["model"] == answers[0]


def test_a_site_that_does_not_take_the_last_model_is_named_and_the_run_ends(run_federation) -> None:
    def change(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
        if (site, kind) == ("birch", "finish"):
            raise RuntimeError
        if (site, kind) == ("cedar", "finish"):
            return json.dumps(json.loads(header) | {"final": "0" * 64}), data
        return header, data

    outcome = run_federation(change, "federation.rounds=1")
    assert outcome.metrics["status"] == "finished"
    assert [e["site"] for e in outcome.events if e["event"] == "received"] == ["alder"]
    assert {e["site"]: e["problem"] for e in outcome.problems} == {
        "birch": "Flower error 2",
        "cedar": "it stored another model",
    }


def test_norms_and_cosines_of_a_round_are_those_of_what_the_sites_sent(run_federation) -> None:
    outcome = run_federation(unchanged, "federation.rounds=1")
    (event,) = outcome.rounds
    updates = {}
    for site in ("alder", "birch", "cedar"):
        arrays = decode(outcome.sent[site, "train", 1][1])
        updates[site] = np.concatenate([arrays[name].reshape(-1) for name in sorted(arrays)])
    for site, update in updates.items():
        others = sum(values for other, values in updates.items() if other != site)
        cosine = update @ others / np.linalg.norm(update) / np.linalg.norm(others)
        assert event["norms"][site] == pytest.approx(np.linalg.norm(update), rel=1e-5)
        assert event["cosines"][site] == pytest.approx(cosine, abs=0.02)
    norms = {e["site"]: e["norm"] for e in outcome.events if e["event"] == "update"}
    assert norms == event["norms"]


def test_accepted_and_refused_updates_are_in_the_audit_log(run_federation) -> None:
    def change(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
        return header, data[:-1] if (site, kind) == ("cedar", "train") else data

    outcome = run_federation(change, "federation.rounds=1")
    trail = read_chain(outcome.folder.path / "audit.jsonl")
    assert [(e["site"], e["round"], e["outcome"]) for e in trail.entries] == [
        ("alder", 1, "accepted"),
        ("birch", 1, "accepted"),
        ("cedar", 1, "refused"),
    ]
    sent = outcome.sent["alder", "train", 1][1]
    assert trail.entries[0]["sha256"] == hashlib.sha256(sent).hexdigest()
    assert trail.entries[0]["bytes"] == len(sent)
