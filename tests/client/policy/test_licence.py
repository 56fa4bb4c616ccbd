"""Data whose licence lets no weights be shared: masked sums only, or by the site's own word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.handlers import answer
from client.policy.in_force import accept, weaker
from client.policy.licence import review_licence
from client.preflight.data import check_data
from client.site.config import load_site
from client.site.dataset import may_share_weights
from mama.config import Experiment
from mama.data.manifest import Dataset, write_manifest
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task


@pytest.fixture
def licensed(site_file: Path) -> Path:
    """The site file of a hospital that ingested such a set."""
    dataset = Dataset(site_file.parent / "dataset")
    changed = dataset.manifest.model_copy(update={"share_weights": False})
    write_manifest(dataset.folder, changed)
    return site_file


def set_licence(path: Path, share: bool | None) -> Path:
    settings = yaml.safe_load(path.read_text())
    settings["data"]["licence"] = {"share_weights": share}
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("kind", ["describe", "train"])
def test_without_secure_aggregation_it_is_refused(
    licensed: Path, make_task: Callable[..., Task], payload: bytes, kind: str
) -> None:
    reply, sent = answer(load_site(licensed), make_task(kind=kind).encode(), payload)
    assert (reply.status, sent) == (ErrorCode.POLICY_LICENCE, b"")


def test_the_sites_word_lets_it_pass_and_the_coordinator_knows(
    licensed: Path, edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> None:
    site = load_site(edit(policy={"share_licensed_weights": True}))
    reply, _ = answer(site, make_task(kind="describe").encode(), payload)
    assert (reply.status, reply.share_weights) == ("ok", False)
    older = Answer.decode(reply.model_copy(update={"protocol": 2}).encode())
    assert "share_weights" not in older.model_copy(update={"protocol": 2}).encode()
    assert [check.verdict for check in check_data(site) if check.name == "licence"] == ["WARN"]


def test_secure_aggregation_satisfies_it(licensed: Path, small_config: Callable[..., Any]) -> None:
    site = load_site(licensed)
    secure = small_config("privacy.secure={threshold: 2}", "participation.quorum=2").experiment()
    assert [finding.passes for finding in review_licence(site, secure)] == [True]
    plain = small_config().experiment()
    assert [finding.passes for finding in review_licence(site, plain)] == [False]
    assert [check.verdict for check in check_data(site) if check.name == "licence"] == ["PASS"]


@pytest.mark.parametrize(("share", "expected"), [(None, False), (True, True), (False, False)])
def test_the_site_file_overrides_the_adapter(
    licensed: Path, share: bool | None, expected: bool
) -> None:
    assert may_share_weights(load_site(set_licence(licensed, share))) is expected


def test_other_data_are_of_no_concern(site_file: Path, experiment: Experiment) -> None:
    assert not list(review_licence(load_site(site_file), experiment))
    assert list(review_licence(load_site(set_licence(site_file, False)), experiment))


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [(False, None, True), (None, True, True), (None, False, False), (True, None, False)],
)
def test_a_looser_licence_needs_a_person(
    site_file: Path, before: bool | None, after: bool | None, refused: bool
) -> None:
    accept(load_site(set_licence(site_file, before)))
    said = weaker(load_site(set_licence(site_file, after)))
    assert ("data.licence.share_weights" in said) is refused
