"""A rehearsal exchanges as much as a round, and leaves nothing behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.exchange.codecs.coding import encode
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from sim.cli import main
from sim.rehearsal import rehearse_here


@pytest.mark.parametrize("up", ["fp32", "int8"])
def test_bytes_are_those_of_a_round(small_config: Callable[..., Any], up: str) -> None:
    experiment = small_config(f"exchange.up={up}").experiment()
    model = build_model(experiment)
    report = rehearse_here(experiment, 2)
    assert report.problems == {}
    assert list(report.sites) == ["site-1", "site-2"]
    whole = encode(trained_arrays(model))
    for one in report.sites.values():
        assert one.bytes_down == pytest.approx(len(whole), rel=0.1)
        assert one.bytes_up == pytest.approx(len(whole) / (1 if up == "fp32" else 4), rel=0.2)
        assert 0 < one.site_seconds <= one.seconds <= report.seconds
        assert one.site_peak_mib > 50
        assert one.mb_s > 0
    assert report.rounds == 2
    assert any("site-2: " in line and "MB/s" in line for line in report.lines())
    json.dumps(report.figures())


def test_the_command(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    config = root / "configs" / "quickstart.yaml"
    ended = command(main, "rehearse", config, "--sites", 1, "--json", "--set", "text.layers=1")
    assert (ended.code, ended.err) == (0, "")
    figures = json.loads(ended.out)
    assert list(figures["sites"]) == ["site-1"]
    assert figures["rounds"] > 0
    assert list(tmp_path.iterdir()) == []
