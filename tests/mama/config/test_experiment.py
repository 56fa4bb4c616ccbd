"""The experiment: accepted values, rejection of hostile ones, canonical text and hash."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mama.config import Experiment, ImageTowerConfig, TextTowerConfig
from mama.config.load import build
from mama.config.strategy import SgdConfig
from mama.errors import ConfigError

PATHS = [
    "", "/etc/passwd", "..", "../x", "a/..", "a/../b", "a/b/c", "./x", "~/x", "/x", "x/", ".hidden",
    "owner/.hidden", "C:\\x", "a b", "a\n", "a\x00b", "hf-hub:x", "hf_hub:owner/x",
    "local-dir:/etc", "local-dir:x", "timm:x", "file://x", "x?y", "x" * 129,
]  # fmt: skip


@pytest.mark.parametrize("kind", [ImageTowerConfig, TextTowerConfig])
@pytest.mark.parametrize("name", PATHS)
def test_a_tower_is_never_a_path_or_an_address(kind: type, name: str) -> None:
    with pytest.raises(ValidationError) as error:
        kind(tower=name, **({"size": (32, 32)} if kind is ImageTowerConfig else {}))
    assert {problem["loc"] for problem in error.value.errors()} == {("tower",)}


@pytest.mark.parametrize("name", ["vit_tiny_r_s16_p8_224", "stanford-crfm/BioMedLM", "a.b-c_d/1"])
def test_plain_names_are_kept(name: str) -> None:
    assert TextTowerConfig(tower=name).tower == name


@pytest.mark.parametrize(
    "option",
    ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "img_size"],
)
def test_options_that_could_read_files_are_unknown(option: str) -> None:
    with pytest.raises(ValidationError, match=f"unknown option '{option}'; allowed: class_token"):
        ImageTowerConfig(tower="x", size=(32, 32), options={option: 1})


@pytest.mark.parametrize("value", ["/etc/passwd", {"file": 1}, ["a"], None, float("nan")])
def test_options_are_numbers_and_switches(value: object) -> None:
    with pytest.raises(ValidationError):
        ImageTowerConfig(tower="x", size=(32, 32), options={"patch_size": value})


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=-1", "seed"),
        ("seed=2147483648", "seed"),
        ("name=a/b", "name"),
        ("image.size=[32, 8]", "image.size.1"),
        ("image.pooling=max", "image.pooling"),
        ("text.lora.targets=['a b']", "text.lora.targets.0"),
        ("text.lora.dropout=1.5", "text.lora.dropout"),
        ("loss.image_text.weight=-1", "loss.image_text.weight"),
        ("loss.local.start=1.01", "loss.local.start"),
        ("loss.view_temperature=0", "loss.view_temperature"),
        ("optimiser.lr=.inf", "optimiser.lr"),
        ("optimiser.betas=[0.9]", "optimiser.betas.1"),
        ("federation.rounds=0", "federation.rounds"),
        ("strategy.weights=loss", "strategy.weights"),
        ("strategy.fairness=6", "strategy.fairness"),
        ("strategy.aggregator.kind=best", "strategy.aggregator"),
        ("strategy.aggregator.trim=0.2", "strategy.aggregator.mean.trim"),
        (
            "strategy.aggregator={kind: trimmed_mean, trim: 0.5}",
            "strategy.aggregator.trimmed_mean.trim",
        ),
        ("strategy.server_optimiser.momentum=1", "strategy.server_optimiser.sgd.momentum"),
        ("strategy.server_optimiser.eps=0.1", "strategy.server_optimiser.sgd.eps"),
        (
            "strategy.server_optimiser={kind: adam, betas: [0.9, 1]}",
            "strategy.server_optimiser.adam.betas.1",
        ),
        ("strategy.local=['a/b']", "strategy.local.0"),
        ("strategy.freeze=[{pattern: a, until_round: 1}]", "strategy.freeze.0.until_round"),
        ("evaluation.density={A: [x]}", "evaluation.density"),
        ("evaluation.suspicious={a: [x], b: [y]}", "evaluation"),
    ],
)
def test_impossible_values_are_named(
    make_experiment: Callable[..., Experiment], override: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=f"key '{key}'"):
        make_experiment(override)


@pytest.mark.parametrize(
    ("quorum", "strategy", "reason"),
    [
        (1, "{aggregator: {kind: median}}", "median needs at least 3 updates"),
        (2, "{aggregator: {kind: median}}", "participation.quorum to 3 or more"),
        (4, "{aggregator: {kind: trimmed_mean}}", "needs at least 5 updates"),
        (3, "{aggregator: {kind: median}, weights: studies}", "median takes no weights"),
        (3, "{aggregator: {kind: median}, scaffold: true}", "scaffold requires aggregator mean"),
        (5, "{aggregator: {kind: trimmed_mean}, fairness: 1}", "trimmed_mean takes no weights"),
        (1, "{freeze: [{pattern: a, until_round: 5}]}", "freeze 'a' ends after the last round"),
    ],
)
def test_impossible_strategies_are_refused_with_the_reason(
    make_experiment: Callable[..., Experiment], quorum: int, strategy: str, reason: str
) -> None:
    over = ("federation.rounds=4", f"participation.quorum={quorum}", f"strategy={strategy}")
    with pytest.raises(ConfigError, match=reason):
        make_experiment(*over)


def test_a_late_vote_beside_a_robust_rule_is_refused(
    make_experiment: Callable[..., Experiment],
) -> None:
    participation = "participation={quorum: 3, late: next_round}"
    with pytest.raises(ConfigError, match=r"a late update would be a second; .*participation.late"):
        make_experiment(participation, "strategy.aggregator.kind=median")


@pytest.mark.parametrize(
    ("quorum", "strategy"),
    [
        (3, "{aggregator: {kind: median}, weights: uniform}"),
        (10, "{aggregator: {kind: trimmed_mean, trim: 0.1}, weights: uniform}"),
        (1, "{freeze: [{pattern: a, until_round: 4}], local: ['*norm?.[wb]*']}"),
    ],
)
def test_possible_strategies_are_accepted(
    make_experiment: Callable[..., Experiment], quorum: int, strategy: str
) -> None:
    over = ("federation.rounds=4", f"participation.quorum={quorum}", f"strategy={strategy}")
    experiment = make_experiment(*over)
    assert Experiment.model_validate_json(experiment.canonical_json()) == experiment


def test_a_section_without_kind_is_the_plain_one(
    make_experiment: Callable[..., Experiment],
) -> None:
    strategy = make_experiment("strategy.server_optimiser={lr: 0.5}").strategy
    assert strategy.server_optimiser == SgdConfig(kind="sgd", lr=0.5)
    assert strategy.aggregator.kind == "mean"


def test_total_steps(make_experiment: Callable[..., Experiment]) -> None:
    experiment = make_experiment("federation.rounds=7", "federation.local_steps=3")
    assert experiment.total_steps == 21


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def test_the_canonical_text_is_sorted_and_complete(values: dict[str, Any]) -> None:
    experiment = Experiment.model_validate(values)
    text = experiment.canonical_json()
    assert '": ' not in text
    assert '", ' not in text
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["loss"]["local"] == {"start": 0.2, "weight": 1.0}
    assert experiment.hash() == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_ignores_key_order_and_survives_the_journey(values: dict[str, Any]) -> None:
    experiment = Experiment.model_validate(values)
    turned = Experiment.model_validate(reversed_keys(values))
    arrived = Experiment.model_validate_json(experiment.canonical_json())
    written_out = Experiment.model_validate(experiment.model_dump())
    assert turned.hash() == arrived.hash() == written_out.hash() == experiment.hash()


def leaves(value: Any, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    return [path]


# Another allowed value where a key has a list of them; it must be allowed beside all defaults.
CHOICES: dict[tuple, Any] = {
    ("init_from",): "ab" * 32,
    ("strategy", "weights"): "steps",
    ("augment", "jitter_probability"): 0.5,
    ("strategy", "aggregator"): {"kind": "median"},
    ("strategy", "server_optimiser"): {"kind": "adagrad"},
    ("strategy", "local"): ["*norm*"],
    ("strategy", "freeze"): [{"pattern": "image.*", "until_round": 2}],
    ("image", "pooling"): "mean",
    ("image", "layout"): "square",
    ("image", "tokens"): "all",
    ("image", "lora"): {"rank": 2},
    ("text", "sentences"): "mean",
    ("text", "base_bits"): 4,
    ("heads", "norm"): "batch",
    ("augment", "crop"): 0.5,
    ("augment", "second_view"): "any_in_study",
    ("compute", "precision"): "bf16",
    ("participation", "sites_per_round"): 0.5,
    ("participation", "late"): "next_round",
    ("privacy", "mode"): "patient",
    ("privacy", "secure"): {"threshold": 2},
    ("exchange", "up"): "int8",
    ("exchange", "down"): "delta",
}


def changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | None:
            return (value or 1) + 1
        case float():
            return value / 2 + 0.001 if value < 1 else value + 0.5
        case str():
            return value + "x"
        case _:
            return [changed(value[0]), *value[1:]]


def test_the_hash_changes_with_any_value(values: dict[str, Any]) -> None:
    values.setdefault("participation", {})["quorum"] = 3  # enough for another aggregator
    whole = Experiment.model_validate(values).model_dump(mode="json")
    hashes = {Experiment.model_validate(whole).hash()}
    for path in leaves(whole):
        if path[-1] == "kind":  # decides which keys stand beside it
            path = path[:-1]
        other = json.loads(json.dumps(whole))
        place = other
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = CHOICES.get(path) or changed(place[path[-1]])
        hashes.add(Experiment.model_validate(other).hash())
    assert len(hashes) == 1 + len(leaves(whole)) > 50


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_anything_is_an_experiment_or_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError):  # it cannot be whole by chance
        build(Experiment, value, "file")


@given(data=st.data())
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_value_anywhere_is_accepted_or_refused(
    experiment: Experiment, data: st.DataObject
) -> None:
    whole = experiment.model_dump(mode="json")
    path = data.draw(st.sampled_from(leaves(whole)))
    depth = data.draw(st.integers(1, len(path)))
    place: Any = whole
    for key in path[: depth - 1]:
        place = place[key]
    place[path[depth - 1]] = data.draw(JSON)
    try:
        built = build(Experiment, whole, "file")
    except ConfigError:
        return
    assert Experiment.model_validate_json(built.canonical_json()) == built
