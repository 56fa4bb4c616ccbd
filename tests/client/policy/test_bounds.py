"""Experiments beyond ordinary training are refused unless the site names what it allows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.handlers import answer
from client.policy.bounds import BOUNDS, broken, review_bounds, value_at
from client.policy.in_force import accept
from client.site.config import load_site
from mama.config import AugmentConfig, Experiment
from mama.config.load import load
from mama.exchange.protocol import Task
from sim.config import SimulatedExperiment

ROOT = Path(__file__).parents[3]
BEYOND = {
    "scaffold": ["strategy.scaffold=true"],
    "guidance": ["strategy.guidance=1e-9"],
    "optimiser.lr": ["optimiser.lr=0.02"],
    "text.lora.rank": ["text.lora.rank=65"],
    "image.options.drop_path_rate": ["image.options.drop_path_rate=0.9"],
    "optimiser.clip_norm": ["optimiser.clip_norm=0.05"],
    "optimiser.betas.0": ["optimiser.betas=[0.0, 0.999]"],
    "optimiser.betas.1": ["optimiser.betas=[0.9, 0.5]"],
    "loss.local.weight": ["loss.local.weight=1e-9"],
    "loss.view_temperature": ["loss.view_temperature=0.001"],
    "augment": [
        "augment={rotate_degrees: 0, shift: 0, min_scale: 1, max_scale: 1, brightness: 0, "
        "contrast: 0}"
    ],
}


@pytest.mark.parametrize("rule", BEYOND)
def test_each_rule_refuses_and_can_be_allowed_by_name(
    edit: Callable[..., Path], make_task: Callable[..., Task], small_config: Callable, rule: str
) -> None:
    experiment = small_config(*BEYOND[rule]).experiment()
    assert broken(experiment) == [rule]
    describe = make_task(kind="describe", of=experiment).encode()
    others = [name for name in BEYOND if name != rule]
    for allowed, status in (
        ([], "policy_bounds"),
        (others, "policy_bounds"),
        ([rule], "ok"),
    ):
        site = load_site(edit(policy={"allow": allowed}))
        accept(site)
        assert answer(site, describe, b"")[0].status == status


@pytest.mark.parametrize("name", ["quickstart", "mias", "private", "mama_vitb", "mama_vitb_288"])
def test_our_experiments_keep_the_bounds(name: str) -> None:
    experiment = load(Experiment, ROOT / "configs" / f"{name}.yaml", without=["simulation"])
    # The paper clips no gradient; a site has to allow that by name.
    assert broken(experiment) == (["optimiser.clip_norm"] if name.startswith("mama_vitb") else [])


def test_no_clipping_has_to_be_allowed(small_config: Callable) -> None:
    experiment = small_config("optimiser.clip_norm=null").experiment()
    (finding,) = review_bounds(experiment, [])
    assert (finding.rule, finding.allowed, finding.requested) == (
        "optimiser.clip_norm",
        "0.1 to 1e+06",
        "inf",
    )


def test_every_bound_names_a_key(small_config: Callable) -> None:
    full = small_config(
        "image.options.drop_path_rate=0.1", "image.lora={rank: 4, alpha: 8}"
    ).experiment()
    assert all(value_at(full, bound.key) is not None for bound in BOUNDS)


@given(st.floats(0, 20), st.floats(0, 0.2), st.floats(0.9, 1), st.floats(1, 1.1))
def test_views_move_exactly_when_something_geometric_is_on(
    degrees: float, shift: float, least: float, most: float
) -> None:
    from client.policy.bounds import moves_views

    config = AugmentConfig(rotate_degrees=degrees, shift=shift, min_scale=least, max_scale=most)
    assert moves_views(config) == (degrees >= 1 or shift >= 0.01 or most - least >= 0.02)


def test_a_simulation_allows_what_its_experiment_asks() -> None:
    from sim.sites import policy_for

    config = load(
        SimulatedExperiment, ROOT / "configs" / "quickstart.yaml", ["strategy.scaffold=true"]
    )
    policy = policy_for(config, 150)
    assert policy.allow == ["scaffold"]
    assert (policy.min_patients_step, policy.min_patients_update) == (8, 32)


@pytest.mark.parametrize(
    "options",
    [
        "{embed_dim: 8192}",
        "{depth: 1000000000}",
        "{depth: 101}",
        "{depths: [1, 1, 1, 1, 1, 1, 1, 1, 1]}",
        "{num_heads: 0}",
        "{mlp_ratio: 1.0e+9}",
    ],
)
def test_a_tower_without_end_is_no_experiment(small_config: Callable, options: str) -> None:
    from mama.errors import ConfigError

    with pytest.raises(ConfigError, match=r"must lie between|at most|valid"):
        small_config(f"image.options={options}")


def test_parameters_are_counted_before_anything_is_built(
    edit: Callable[..., Path], make_task: Callable[..., Task], small_config: Callable
) -> None:
    experiment = small_config(
        "image.options={patch_size: 4, embed_dim: 4096, depth: 24, num_heads: 32}"
    ).experiment()
    describe = make_task(kind="describe", of=experiment).encode()
    assert answer(load_site(edit()), describe, b"")[0].status == "policy_size"
