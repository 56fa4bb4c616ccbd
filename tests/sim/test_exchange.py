"""Whole federations under every coding: they end, small or exact where promised."""

import json

import pytest
import torch
from safetensors.torch import load_file

from client.training import tasks
from sim.run import federate


def weights(out):
    return load_file(out / "final" / "model.safetensors")


@pytest.fixture
def run(small_config, site_files, tmp_path):
    def run(name, *overrides):
        out = tmp_path / name
        metrics = federate(small_config(*overrides).experiment(), site_files(f"s-{name}"), out)
        assert metrics["status"] == "finished"
        assert metrics["problems"] == []
        return weights(out), metrics["exchange"]

    return run


def test_codings_are_as_small_as_promised_and_near_the_exact_result(run):
    whole, exact = run("fp32")
    for up, share, near in (("bf16", 0.55, 1e-3), ("int8", 0.33, 1e-3), ("topk", 0.2, 0.1)):
        coded, sizes = run(up, f"exchange={{up: {up}, keep: 0.02}}")
        assert sizes["bytes_up_per_site_round"] < share * exact["bytes_up_per_site_round"]
        assert sizes["bytes_down_per_site_round"] == pytest.approx(
            exact["bytes_down_per_site_round"], rel=0.01
        )
        name = "image_projection.weight"
        assert 0 < (coded[name] - whole[name]).abs().max() < near


def test_changes_down_lead_to_the_same_bits(run):
    more = "federation={rounds: 3, local_steps: 2, evaluate_every: 1}", "participation.quorum=2"
    whole, full = run("full", *more)
    changed, delta = run("delta", *more, "exchange.down=delta")
    assert all(torch.equal(whole[name], changed[name]) for name in whole)
    # The first round brings all; the evaluations before the others bring the new model.
    assert delta["bytes_down_per_site_round"] < 0.5 * full["bytes_down_per_site_round"]


def test_a_stopped_run_continues_to_the_same_bits(
    run, small_config, site_files, tmp_path, monkeypatch
):
    config = ("federation.rounds=4", "exchange={up: int8, down: delta}")
    whole, _ = run("whole", *config)
    files, original = site_files("cut-sites"), tasks.train

    def interrupted(site, experiment, task, arrays, *rest):
        if task.round == 3 and site.site == "birch":
            raise KeyboardInterrupt
        return original(site, experiment, task, arrays, *rest)

    experiment = small_config(*config).experiment()
    monkeypatch.setattr(tasks, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        federate(experiment, files, tmp_path / "cut")
    monkeypatch.setattr(tasks, "train", original)
    metrics = federate(experiment, files, tmp_path / "cut")
    assert metrics["problems"] == []
    cut = weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    lines = (tmp_path / "cut" / "rounds.jsonl").read_text().splitlines()
    down = [e["bytes_down"] for e in map(json.loads, lines) if e["event"] == "round"]
    assert [round["alder"] < 0.95 * down[0]["alder"] for round in down] == [False, True, True, True]
