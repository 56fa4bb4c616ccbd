"""SCAFFOLD, local and frozen tensors, robust rules and server optimisers in federations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import make_app
from client.handlers import answer
from client.site.config import load_site
from client.training import tasks
from mama.errors import ConfigError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.protocol import Task
from mama.exchange.update import VARIATE, initial_arrays
from mama.model import build_model
from mama.system.tensors import load_tensors
from server.round.run import FederatedRun
from server.run.checkpoint import read_checkpoint
from server.run.context import RunContext
from server.run.events import Event, RoundDone
from server.run.folder import RunFolder
from sim.engines.inprocess import InProcessGrid
from tests.events import records

SITES = ("alder", "birch", "cedar")
NORMS = "strategy.local=['*norm*', '*_head.[14].*']"


def unchanged(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
    return header, data


def model_after(folder: RunFolder, number: int) -> Arrays:
    return read_checkpoint(folder.path / "checkpoints" / f"round-{number:04d}").arrays


def kept(site_file: Path, kind: str, number: int) -> Arrays:
    (path,) = site_file.parent.glob(f"state/runs/*/{kind}/round-{number:06d}.safetensors")
    return {name: tensor.numpy() for name, tensor in load_tensors(path)[0].items()}


def sent(outcome: Any, number: int) -> dict[str, Arrays]:
    return {site: decode(outcome.sent[site, "train", number][1]) for site in SITES}


def test_scaffold_keeps_the_mean_of_the_sites_variates(run_federation, site_files) -> None:
    files = site_files("sites")
    outcome = run_federation(unchanged, "strategy.scaffold=true", files=files)
    assert outcome.problems == []
    for number in (1, 2):
        model, updates = model_after(outcome.folder, number), sent(outcome, number)
        variates = [kept(path, "variate", number) for path in files]
        for name, c in model.items():
            if not name.startswith(VARIATE):
                continue
            plain = name.removeprefix(VARIATE)
            # All have 8 studies.
            mean = sum(own[plain].astype(np.float64) for own in variates) / 3
            np.testing.assert_allclose(c, mean, rtol=1e-4, atol=1e-6, err_msg=name)
            if number == 2:
                earlier = kept(files[0], "variate", 1)[plain]
                np.testing.assert_array_equal(
                    updates["alder"][name], variates[0][plain] - earlier, err_msg=name
                )
                before = model_after(outcome.folder, 1)[plain].astype(np.float64)
                mean = sum(update[plain].astype(np.float64) for update in updates.values()) / 3
                np.testing.assert_allclose(
                    model[plain], before + mean, rtol=0, atol=1e-6, err_msg=plain
                )
    assert np.abs(model[VARIATE + "image_projection.weight"]).max() > 1e-3


def test_scaffold_changes_nothing_in_the_first_round_and_steps_after_it(
    run_federation, tmp_path
) -> None:
    outcome = run_federation(unchanged)
    plain = [model_after(outcome.folder, number) for number in (1, 2)]
    outcome.folder.path.rename(tmp_path / "plain")
    (tmp_path / "sites").rename(tmp_path / "plain-sites")
    folder = run_federation(unchanged, "strategy.scaffold=true").folder
    for number in (1, 2):
        corrected = model_after(folder, number)
        same = {n: np.array_equal(corrected[n], array) for n, array in plain[number - 1].items()}
        assert all(same.values()) == (number == 1)


def test_local_tensors_never_travel_and_differ_by_site(
    run_federation, site_files, small_config
) -> None:
    files = site_files("sites")
    outcome = run_federation(unchanged, NORMS, files=files)
    assert outcome.problems == []
    norm = "image.model.blocks.0.norm1.weight"
    everything = [model_after(outcome.folder, 2), *sent(outcome, 1).values()]
    assert not any(norm in arrays or "view_head.1.bias" in arrays for arrays in everything)
    assert "image.model.blocks.0.mlp.fc1.weight" in everything[0]
    own = [kept(path, "local", 2) for path in files]
    assert set(own[0]) >= {norm, "view_head.4.weight", "patch_head.1.bias"}
    for name in (norm, "view_head.4.weight"):
        assert not np.array_equal(own[0][name], own[1][name])
        assert not np.array_equal(own[0][name], kept(files[0], "local", 1)[name])

    # An evaluation takes the site's own, whichever site this process was before.
    experiment = small_config(NORMS).experiment()
    run = outcome.folder.latest().run
    for path, tensors in zip(files, own, strict=True):
        task = Task(
            run=run, round=2, task="evaluate-2", kind="evaluate",
            experiment=experiment.canonical_json(), experiment_hash=experiment.hash(),
        )  # fmt: skip
        site = load_site(path)
        reply, _ = answer(site, task.encode(), encode(outcome.folder.latest().arrays))
        assert reply.status == "ok"
        model = dict(tasks._model(site, experiment).model.named_parameters())
        for name, array in tensors.items():
            np.testing.assert_array_equal(model[name].detach().numpy(), array, err_msg=name)


def test_batch_norm_needs_to_be_local(run_federation, site_files, small_config) -> None:
    files = site_files("sites")
    outcome = run_federation(unchanged, NORMS, "heads.norm=batch", files=files)
    assert outcome.problems == []
    first, second = (kept(path, "local", 2) for path in files[:2])
    assert first["view_head.1.num_batches_tracked"] > 0
    assert not np.array_equal(first["view_head.1.running_mean"], second["view_head.1.running_mean"])
    assert outcome.metrics["status"] == "finished"


def test_frozen_tensors_travel_from_their_round_on(run_federation, small_config) -> None:
    freeze = "strategy.freeze=[{pattern: 'image.model.*', until_round: 2}]"
    initial = initial_arrays(
        build_model(small_config(freeze).experiment()), small_config(freeze).strategy
    )
    outcome = run_federation(unchanged, freeze)
    assert outcome.problems == []
    first, second = (model_after(outcome.folder, number) for number in (1, 2))
    for number, arrays in ((1, sent(outcome, 1)["alder"]), (2, sent(outcome, 2)["alder"])):
        assert any(name.startswith("image.model.") for name in arrays) == (number == 2)
    moved = {name for name, array in initial.items() if not np.array_equal(first[name], array)}
    assert "image_projection.weight" in moved
    assert not any(name.startswith("image.model.") for name in moved)
    name = "image.model.patch_embed.proj.weight"
    assert not np.array_equal(second[name], first[name])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("strategy.local=['*nrom*']", "strategy.local"),
        ("strategy.freeze=[{pattern: 'vision.*', until_round: 2}]", "strategy.freeze"),
        ("strategy.local=['*']", "strategy.local"),
    ],
)
def test_patterns_that_name_nothing_or_all_are_refused(small_config, override, key) -> None:
    experiment = small_config(override).experiment()
    with pytest.raises(ConfigError, match=key):
        initial_arrays(build_model(experiment), experiment.strategy)


def test_the_median_of_what_sites_sent(run_federation) -> None:
    outcome = run_federation(
        unchanged,
        "strategy.aggregator.kind=median",
        "strategy.weights=uniform",
        "participation.quorum=3",
    )
    first, second = (model_after(outcome.folder, number) for number in (1, 2))
    updates = sent(outcome, 2).values()
    for name, array in first.items():
        middle = np.median([update[name] for update in updates], axis=0)
        np.testing.assert_array_equal(second[name], array + middle, err_msg=name)
    assert not (outcome.folder.path / "scratch").exists()


def test_adams_first_step(run_federation, small_config) -> None:
    adam = "strategy.server_optimiser={kind: adam, lr: 0.01, eps: 0.001}"
    experiment = small_config(adam).experiment()
    initial = initial_arrays(build_model(experiment), experiment.strategy)
    outcome = run_federation(unchanged, adam)
    updates = sent(outcome, 1).values()
    for name, array in model_after(outcome.folder, 1).items():
        mean = sum(update[name].astype(np.float64) for update in updates) / 3
        expected = initial[name] + 0.01 * mean / (np.abs(mean) + 0.001)
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_crash_in_every_method_at_once_continues_to_the_same_bits(
    small_config, site_files, new_run, tmp_path
) -> None:
    experiment = small_config(
        NORMS,
        "federation.rounds=3",
        "strategy.scaffold=true",
        "strategy.prox=0.1",
        "strategy.guidance=1",
        "strategy.fairness=1",
        "strategy.server_optimiser.kind=yogi",
        "strategy.freeze=[{pattern: 'text.*', until_round: 3}]",
        "exchange={up: int8, down: delta}",
    ).experiment()

    def run(name: str, crash_at: int | None, files: list[Path]) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        if not folder.path.exists():
            new_run(experiment, folder.path)

        def listener(event: Event) -> None:
            if isinstance(event, RoundDone) and event.round == crash_at:
                raise KeyboardInterrupt

        FederatedRun(
            InProcessGrid(make_app(), files), RunContext(folder, listener, expected=3, slots=1)
        ).run()
        return folder

    whole = run("whole", None, site_files("whole-sites"))
    files = site_files("cut-sites")
    with pytest.raises(KeyboardInterrupt):
        run("cut", 2, files)
    cut = run("cut", None, files)
    assert [e for e in records(cut) if e["event"] == "problem"] == []
    for name, array in whole.latest().arrays.items():
        np.testing.assert_array_equal(array, cut.latest().arrays[name], err_msg=name)


def test_guidance_is_reported_and_keeps_a_site_nearer_to_the_global_model(
    run_federation, tmp_path
) -> None:
    def distance(weight: float) -> float:
        outcome = run_federation(
            unchanged,
            f"strategy.guidance={weight}",
            "federation.rounds=1",
            "federation.local_steps=4",
        )
        assert outcome.problems == []
        for name in ("run", "sites"):
            (tmp_path / name).rename(tmp_path / f"{name}-{weight}")
        return outcome.sent["alder", "train", 1][0]["training"]["terms"]["guidance"]

    assert 0 < distance(100.0) < distance(0.001)
