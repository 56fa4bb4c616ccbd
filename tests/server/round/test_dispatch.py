"""Nodes that are silent, broken, doubled or strange end up as problems named by site."""

import shutil
import time
from pathlib import Path

import pytest
import yaml

from mama.errors import QuorumError

SECRET = "cannot open /data/MARY_SMITH.dcm"


def test_a_flower_error_is_a_problem_of_its_site(run_federation) -> None:
    def change(site: str, kind: str, number: int, header: str, data: bytes):
        if site == "cedar" and (kind, number) == ("train", 1):
            raise RuntimeError(SECRET)
        return header, data

    outcome = run_federation(change)

    (problem,) = outcome.problems
    assert (problem["round"], problem["site"]) == (1, "cedar")
    assert "Flower error" in problem["problem"]
    assert "MARY" not in str(outcome.events)
    assert [sorted(event["sites"]) for event in outcome.rounds] == [
        ["alder", "birch"],
        ["alder", "birch", "cedar"],
    ]


def test_a_silent_node_is_named_after_the_deadline(run_federation) -> None:
    begin = time.monotonic()
    outcome = run_federation(
        lambda site, kind, number, header, data: (header, data),
        "participation.deadline_s=3",
        "federation.rounds=1",
        silent=(2,),
    )

    assert {(p["site"], p["problem"]) for p in outcome.problems} == {
        ("birch", "no answer before the deadline")
    }
    assert [p["round"] for p in outcome.problems] == [
        1
    ]  # who trained nothing is not asked for more
    assert sorted(outcome.rounds[0]["sites"]) == ["alder", "cedar"]
    # A deadline each for these, and what the run takes itself.
    assert 3 <= time.monotonic() - begin < 60


def test_a_node_that_answers_nonsense_at_the_start_is_left_out(run_federation) -> None:
    def change(site: str, kind: str, number: int, header: str, data: bytes):
        return ("nonsense", data) if (site, kind) == ("alder", "describe") else (header, data)

    outcome = run_federation(change, "federation.rounds=1")

    (problem,) = outcome.problems
    assert problem["site"] == "node 1"  # its name is what it failed to say
    assert outcome.metrics["sites"] == ["birch", "cedar"]


def test_of_two_nodes_with_one_name_the_second_is_left_out(run_federation, site_files) -> None:
    files = site_files("sites")
    twin = files[2].parent.parent / "twin"
    shutil.copytree(files[0].parent, twin)
    outcome = run_federation(
        lambda site, kind, number, header, data: (header, data),
        "federation.rounds=1",
        files=[*files, twin / "site.yaml"],
    )

    (problem,) = outcome.problems
    assert problem["site"] == "alder"
    assert "two nodes have this site's name; give each its own" in problem["problem"]
    assert outcome.metrics["sites"] == ["alder", "birch", "cedar"]
    assert ("twin", "train", 1) not in outcome.sent


def test_a_site_with_another_base_model_is_left_out(run_federation) -> None:
    def change(site: str, kind: str, number: int, header: str, data: bytes):
        if (site, kind) == ("birch", "describe"):
            begin = header.index('"fingerprint":"') + len('"fingerprint":"')
            header = header[:begin] + "f" * 64 + header[begin + 64 :]
        return header, data

    outcome = run_federation(change, "federation.rounds=1")

    (problem,) = outcome.problems
    assert problem["site"] == "birch"
    assert "base model is not the run's; install the same weights" in problem["problem"]
    assert outcome.metrics["sites"] == ["alder", "cedar"]
    assert ("birch", "train", 1) not in outcome.sent


def test_fewer_sites_than_the_quorum_end_the_run_before_training(
    run_federation, site_files: object, tmp_path: Path
) -> None:
    with pytest.raises(QuorumError, match="start: 3 of at least 4 sites answered"):
        run_federation(
            lambda site, kind, number, header, data: (header, data), "participation.quorum=4"
        )
    assert '"status": "stopped"' in (tmp_path / "run" / "metrics.json").read_text()


def test_a_node_whose_site_file_is_broken_is_reported_by_code(run_federation, site_files) -> None:
    files = site_files("sites")
    values = yaml.safe_load(files[1].read_text())
    files[1].write_text(yaml.safe_dump(values | {"sight": "birch"}))
    outcome = run_federation(
        lambda site, kind, number, header, data: (header, data),
        "federation.rounds=1",
        files=files,
    )

    (problem,) = outcome.problems
    assert problem["code"] == "site_file"
    assert problem["problem"] == "The site's configuration file is missing or invalid."
    assert outcome.metrics["sites"] == ["alder", "cedar"]
