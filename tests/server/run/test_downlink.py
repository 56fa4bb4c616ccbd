"""Model sent to each site: a delta from the model it holds, the whole model otherwise."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mama.config.federation import ExchangeConfig
from mama.exchange.codecs.block import digest_of, unpack
from mama.exchange.codecs.change import apply_change
from mama.exchange.codecs.coding import encode
from server.run.downlink import Downlink

RANDOM = np.random.default_rng(0)
MODELS = [{"a": RANDOM.standard_normal((20, 30)).astype(np.float32)} for _ in range(3)]
BLOCKS = [encode(model) for model in MODELS]


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Files of three models in a row."""
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, block in zip(paths, BLOCKS, strict=True):
        path.write_bytes(block)
    return paths


@pytest.fixture
def downlink(models: list[Path]) -> Downlink:
    return Downlink(ExchangeConfig(down="delta"), models[:1])


def test_whoever_says_nothing_gets_the_whole_model(downlink: Downlink, models: list[Path]) -> None:
    assert downlink.block_for("alder") == BLOCKS[0]
    downlink.publish(models[1])
    downlink.learn("alder", None)
    assert downlink.block_for("alder") == BLOCKS[1]


def test_the_change_goes_to_who_holds_the_model_before(
    downlink: Downlink, models: list[Path]
) -> None:
    downlink.learn("alder", digest_of(BLOCKS[0]))
    downlink.learn("birch", "0" * 64)
    downlink.publish(models[1])
    change = downlink.block_for("alder")
    assert apply_change(unpack(change), BLOCKS[0]) == BLOCKS[1]
    assert downlink.block_for("birch") == downlink.block_for("cedar") == BLOCKS[1]


def test_who_holds_the_newest_model_is_sent_next_to_nothing(
    downlink: Downlink, models: list[Path]
) -> None:
    downlink.publish(models[1])
    downlink.learn("alder", digest_of(BLOCKS[1]))
    block = downlink.block_for("alder")
    assert len(block) < 500
    assert apply_change(unpack(block), BLOCKS[1]) == BLOCKS[1]


def test_who_missed_a_round_gets_the_change_from_what_it_holds_while_that_is_there(
    downlink: Downlink, models: list[Path]
) -> None:
    for site in ("alder", "birch"):
        downlink.learn(site, digest_of(BLOCKS[0]))
    downlink.publish(models[1])
    downlink.publish(models[2])
    assert apply_change(unpack(downlink.block_for("birch")), BLOCKS[0]) == BLOCKS[2]
    downlink.forget("alder")
    assert downlink.block_for("alder") == BLOCKS[2]
    models[0].unlink()
    downlink.publish(models[2])
    assert downlink.block_for("birch") == BLOCKS[2]


def test_a_server_that_starts_again_knows_the_models_of_its_checkpoints(models: list[Path]) -> None:
    downlink = Downlink(ExchangeConfig(down="delta"), models)
    downlink.learn("alder", digest_of(BLOCKS[1]))
    assert apply_change(unpack(downlink.block_for("alder")), BLOCKS[1]) == BLOCKS[2]


def test_full_is_full(models: list[Path]) -> None:
    downlink = Downlink(ExchangeConfig(), models[:1])
    downlink.learn("alder", digest_of(BLOCKS[0]))
    assert downlink.block_for("alder") == BLOCKS[0]
    downlink.publish(models[1])
    assert downlink.block_for("alder") == BLOCKS[1]


def test_a_site_that_lost_its_model_is_sent_all_of_it_in_the_same_round(
    run_federation, site_files
) -> None:
    files = site_files("sites")

    def change(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
        if (site, kind, number) == ("birch", "train", 1):
            shutil.rmtree(files[1].parent / "state")
        return header, data

    outcome = run_federation(
        change,
        "federation.rounds=4",
        "federation.local_steps=1",
        "exchange.down=delta",
        files=files,
    )
    assert outcome.problems == []
    again = [(e["round"], e["site"]) for e in outcome.events if e["event"] == "asked_again"]
    assert again == [(2, "birch")]
    whole = len(encode(outcome.folder.latest().arrays))
    down = [event["bytes_down"] for event in outcome.rounds]
    assert min(down[0].values()) > whole  # with its header
    assert max(down[1]["alder"], down[1]["cedar"]) < 0.95 * whole
    assert down[1]["birch"] > whole + down[1]["alder"] / 2  # both that it was sent
    assert down[2]["birch"] < whole
    assert outcome.metrics["exchange"]["bytes_down_per_site_round"] < whole


def test_a_lie_about_what_is_held_costs_the_liar_alone(run_federation) -> None:
    def change(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
        if site == "birch" and number == 1:
            header = json.dumps(json.loads(header) | {"holds": "0" * 64})
        return header, data

    outcome = run_federation(change, "exchange.down=delta")
    assert outcome.problems == []
    assert outcome.rounds[1]["bytes_down"]["birch"] > outcome.rounds[1]["bytes_down"]["alder"]


def test_sizes_are_reported_as_sent(run_federation, tmp_path: Path) -> None:
    outcome = run_federation(
        lambda site, kind, number, header, data: (header, data), "exchange.up=int8"
    )
    for number, event in enumerate(outcome.rounds, start=1):
        for site, size in event["bytes_up"].items():
            _, data = outcome.sent[site, "train", number]
            assert len(data) < size < len(data) + 2000
            assert unpack(data).codec == "int8"
