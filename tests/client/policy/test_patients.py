"""An update rests on enough patients, or it does not leave."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client.handlers import answer
from client.policy.patients import sentences
from client.site.config import PolicyConfig, load_site
from client.site.dataset import dataset_of
from mama.data.pairs import StudyPairs
from mama.exchange.protocol import Task


@pytest.mark.parametrize("batch", [1, 3, 4, 8])
@pytest.mark.parametrize("steps", [range(1), range(3), range(2, 9)])
def test_patients_are_counted_as_they_are_drawn(
    site_file: Path, small_config: Callable, batch: int, steps: range
) -> None:
    site = load_site(site_file)
    experiment = small_config(f"optimiser.batch_size={batch}").experiment()
    pairs = StudyPairs(dataset_of(site), experiment, stream="alder")
    seen = {studies[0].patient for step in steps for studies in pairs._patients_of(step)}
    found = pairs.patients_in(steps)
    assert found <= len(seen)
    assert found >= min(len(seen), len(pairs.patients) // batch * batch)


@pytest.mark.parametrize("rule", ["min_patients_step", "min_patients_update"])
@pytest.mark.parametrize("kind", ["describe", "train"])
def test_too_few_patients_are_refused(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes, rule: str, kind: str
) -> None:
    site = load_site(edit(policy={rule: 9}))  # of 8 patients in batches of 4
    reply, sent = answer(site, make_task(kind=kind).encode(), payload)
    assert reply.status == "policy_patients"
    assert not sent


def test_a_round_that_ends_early_sends_nothing_of_too_few(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> None:
    policy = {"min_patients_update": 8, "max_round_steps": 1}
    site = load_site(edit(policy=policy))
    reply, sent = answer(site, make_task().encode(), payload)
    assert reply.status == "policy_patients"
    assert not sent


def test_the_defaults(site_file: Path, small_config: Callable) -> None:
    assert PolicyConfig().min_patients_step == 8
    assert PolicyConfig().min_patients_update == 32
    site = load_site(site_file)
    lines = sentences(site, small_config("strategy.scaffold=true").experiment())
    assert "raw gradients: yes (scaffold)" in lines
    assert "raw gradients: no" in sentences(site, small_config().experiment())
