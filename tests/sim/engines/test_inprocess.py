"""The federation in one process: whole runs, repeated, continued and interrupted."""

import json

import pytest
import torch
from safetensors.torch import load_file

from client.training import tasks
from mama.data.manifest import Dataset, write_manifest
from mama.errors import QuorumError
from mama.final.saved import load_final
from server.run.folder import RunFolder
from sim.run import federate
from tests.events import records


def weights(out):
    return load_file(out / "final" / "model.safetensors")


def test_a_run_leaves_all_it_promises(small_config, site_files, tmp_path):
    metrics = federate(small_config().experiment(), site_files(), tmp_path / "out")

    assert metrics["status"] == "finished"
    assert metrics["sites"] == ["alder", "birch", "cedar"]
    for method in ("zero_shot", "linear_probe"):
        for label in ("density", "suspicious"):
            assert {"auc", "balanced_accuracy"} <= set(
                metrics["evaluation"]["federated"][method][label]
            )
    trained = metrics["exchange"]["trained_parameters"]
    assert 4 * trained < metrics["exchange"]["bytes_up_per_site_round"] < 4 * trained + 40_000
    assert metrics["exchange"]["frozen_parameters"] > 10_000_000
    assert metrics["timing"]["train_s"] > 0
    assert metrics["timing"]["overhead_s"] > 0
    out = tmp_path / "out"
    assert [path.name for path in RunFolder(out).checkpoints()] == ["round-0001", "round-0002"]
    assert "alder" in (out / "report.html").read_text()
    for site in metrics["sites"]:
        assert (out / "sites" / site / "site_report.html").is_file()
    _, experiment = load_final(out / "final")
    assert experiment == small_config().experiment()
    assert "simulation" not in (out / "experiment.yaml").read_text()


def test_same_seed_same_bits(small_config, site_files, tmp_path):
    experiment = small_config().experiment()
    federate(experiment, site_files("a"), tmp_path / "one")
    federate(experiment, site_files("b"), tmp_path / "two")

    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_another_model(small_config, site_files, tmp_path):
    for seed in (0, 1):
        experiment = small_config(f"seed={seed}").experiment()
        federate(experiment, site_files(f"s{seed}"), tmp_path / f"out{seed}")

    one, two = weights(tmp_path / "out0"), weights(tmp_path / "out1")
    assert not torch.equal(one["image_projection.weight"], two["image_projection.weight"])


def test_every_trained_part_changes_and_every_frozen_one_stays(small_config, site_files, tmp_path):
    from mama.model import build_model

    experiment = small_config().experiment()
    before = build_model(experiment).state_dict()
    federate(experiment, site_files(), tmp_path / "out")
    after = weights(tmp_path / "out")

    changed = {name for name in before if not torch.equal(before[name], after[name])}
    for part in ("text.separator", "lora_A", "lora_B", "patch_head", "sentence_head", "view_head"):
        assert any(part in name for name in changed), part
    for part in ("image.model.", "image_projection", "text_projection", "logit_scale"):
        assert any(part in name for name in changed), part
    assert not any("base_layer" in name or "word_embeddings" in name for name in changed)


@pytest.mark.parametrize("term", ["image_text", "second_text", "image_image", "local"])
def test_removing_any_term_changes_the_result(small_config, site_files, tmp_path, term):
    files = site_files()[:2]
    federate(small_config().experiment(), files, tmp_path / "whole")
    federate(small_config(f"loss.{term}.weight=0").experiment(), files, tmp_path / "less")

    whole, less = weights(tmp_path / "whole"), weights(tmp_path / "less")
    name = "image.model.patch_embed.proj.weight"
    assert not torch.allclose(whole[name], less[name], rtol=0, atol=1e-7)


def test_a_stopped_run_continues_to_the_same_end(small_config, site_files, tmp_path, monkeypatch):
    experiment = small_config("federation.rounds=3").experiment()
    federate(experiment, site_files("a"), tmp_path / "whole")

    files, original = site_files("b"), tasks.train

    def interrupted(site, experiment, task, arrays, *rest):
        if task.round == 3:
            raise KeyboardInterrupt
        return original(site, experiment, task, arrays, *rest)

    monkeypatch.setattr(tasks, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        federate(experiment, files, tmp_path / "cut")
    monkeypatch.setattr(tasks, "train", original)
    metrics = federate(experiment, files, tmp_path / "cut")

    assert metrics["rounds"] == 3
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_site_that_raises_in_round_2_is_named_and_the_run_goes_on(
    small_config, site_files, tmp_path, monkeypatch
):
    original = tasks.train

    def failing(site, experiment, task, arrays, *rest):
        if site.site == "birch" and task.round == 2:
            raise RuntimeError("patient MARY SMITH, /data/secret/path")
        return original(site, experiment, task, arrays, *rest)

    monkeypatch.setattr(tasks, "train", failing)
    metrics = federate(
        small_config("federation.rounds=3").experiment(), site_files(), tmp_path / "o"
    )

    assert metrics["status"] == "finished"
    assert metrics["rounds"] == 3
    (problem,) = metrics["problems"]
    assert (problem["round"], problem["site"], problem["code"]) == (2, "birch", "internal")
    rounds = [e for e in records(RunFolder(tmp_path / "o")) if e["event"] == "round"]
    assert [sorted(e["sites"]) for e in rounds] == [
        ["alder", "birch", "cedar"],
        ["alder", "cedar"],
        ["alder", "birch", "cedar"],
    ]
    everything = "".join(path.read_text() for path in (tmp_path / "o").glob("*") if path.is_file())
    assert "MARY" not in everything
    assert "/data/secret" not in everything
    assert "birch" in (tmp_path / "o" / "report.html").read_text()


def test_too_few_sites_end_the_run_and_keep_what_is_done(
    small_config, site_files, tmp_path, monkeypatch
):
    original = tasks.train

    def failing(site, experiment, task, arrays, *rest):
        if site.site != "alder" and task.round == 2:
            raise RuntimeError
        return original(site, experiment, task, arrays, *rest)

    monkeypatch.setattr(tasks, "train", failing)
    with pytest.raises(QuorumError, match=r"round 2: 1 of at least 2 sites answered.*same --out"):
        federate(small_config().experiment(), site_files(), tmp_path / "out")

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["status"], metrics["rounds"]) == ("stopped", 1)
    assert "stopped" in (tmp_path / "out" / "report.html").read_text().lower()
    assert RunFolder(tmp_path / "out").latest().round == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda study: None, "no_studies"),
        (lambda study: study.model_copy(update={"sentences": ()}), "empty_reports"),
    ],
)
def test_a_site_with_nothing_to_learn_from_is_left_out_by_name(
    small_config, site_files, tmp_path, change, code
):
    files = site_files()
    folder = files[1].parent / "dataset"
    manifest = Dataset(folder).manifest
    studies = tuple(s for s in map(change, manifest.studies) if s is not None)
    write_manifest(folder, manifest.model_copy(update={"studies": studies}))

    metrics = federate(small_config().experiment(), files, tmp_path / "out")

    assert metrics["sites"] == ["alder", "cedar"]
    assert metrics["problems"][0]["code"] == code
