"""YAML to configuration: each mistake is one ConfigError with the file, the key and the fix."""

from pathlib import Path

import pytest

from mama.config import Experiment
from mama.config.load import load, read_yaml
from mama.errors import ConfigError


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(Experiment, path, overrides)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def edited(tmp_path: Path, original: Path, old: str, new: str) -> Path:
    text = original.read_text()
    assert old in text
    path = tmp_path / "edited.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("los.local.start=0", "unknown key 'los'. Did you mean 'loss'?"),
        ("loss.locale.start=0", "unknown key 'loss.locale'. Did you mean 'local'?"),
        ("text.lora.rang=4", "unknown key 'text.lora.rang'. Did you mean 'rank'?"),
        (
            "text.lora.zzz=4",
            "unknown key 'text.lora.zzz'. Known keys: alpha, dropout, rank, targets",
        ),
        # Keys in the wrong section, as in experiments written before the sections were split.
        (
            "federation={rounds: 2, quorum: 2}",
            "unknown key 'federation.quorum'. Write it as participation.quorum",
        ),
        ("federation.weights=studies", "Write it as strategy.weights"),
        ("federation.exchange={up: int8}", "Write it as exchange"),
        ("federation.local=[a]", "Write it as loss.local or strategy.local"),
        ("federation.quorom=2", "Did you mean 'participation.quorum'?"),
        ("rounds=2", "unknown key 'rounds'. Write it as federation.rounds"),
        ("federation.rounds=many", "key 'federation.rounds': must be a whole number"),
        ("federation.rounds=many", "(is 'many')"),
        ("federation.rounds=0", "must be at least 1 (is 0)"),
        ("image.tower=/etc/x", "key 'image.tower': must be a model name"),
        (
            "strategy.server_optimiser={kind: adam, momentum: 0.5}",
            "unknown key 'strategy.server_optimiser.adam.momentum'. "
            "Known keys: betas, eps, kind, lr",
        ),
        (
            "strategy.freeze=[{pattern: a, until_rond: 2}]",
            "unknown key 'strategy.freeze.0.until_rond' "
            "(and 1 more: strategy.freeze.0.until_round). "
            "Did you mean 'until_round'?",
        ),
        ("image.layout=round", "key 'image.layout': must be 'native' or 'square' (is 'round')"),
        ("image.pretrained=maybe", "must be true or false (is 'maybe')"),
        ("optimiser.lr=.inf", "must be a finite number"),
        ("optimiser.lr=0", "must be more than 0.0 (is 0)"),
        ("federation.evaluate_every=null", "must be a whole number (is null)"),
        ("image.size=[32]", "key 'image.size.1' is missing"),
        ("name=a b", "key 'name': contains a character that is not allowed"),
        ("evaluation.density={A: [a]}", "must have at least 2 entries"),
        ("heads=3", "key 'heads': must be a section with its own keys (is 3)"),
    ],
)
def test_wrong_keys_and_values(experiment_file: Path, override: str, message: str) -> None:
    line = refusal(experiment_file, override)
    assert line.startswith(f"--set {override}: ")
    assert message in line


def test_the_file_is_blamed_for_its_own_mistakes(tmp_path: Path, experiment_file: Path) -> None:
    path = edited(tmp_path, experiment_file, "batch_size:", "batch_sise:")
    assert refusal(path, "seed=1").startswith(f"{path}: unknown key 'optimiser.batch_sise'")
    path = edited(tmp_path, experiment_file, "name: tiny", "")
    assert refusal(path, "seed=1").startswith(f"{path}: key 'name' is missing")
    path = edited(tmp_path, experiment_file, "seed: 3", "seed: x")
    assert refusal(path, "seed=y").startswith("--set seed=y: key 'seed': must be a whole number")


def test_of_several_overrides_the_one_that_brings_the_mistake_is_blamed(
    experiment_file: Path,
) -> None:
    line = refusal(experiment_file, "seed=1", "loss.image_text.weight=0",
                   "loss.second_text.start=1", "loss.image_image.start=1",
                   "name=other")  # fmt: skip
    assert line.startswith("--set loss.image_image.start=1: key 'loss': at least one term needs")


def test_keys_of_another_reader_are_left_out(tmp_path: Path, experiment_file: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(experiment_file.read_text() + "simulation: {sites: 3}\n")
    assert load(Experiment, path, without=["simulation"]) == load(Experiment, experiment_file)
    with pytest.raises(ConfigError, match="unknown key 'simulation'"):
        load(Experiment, path)


def test_a_missing_key(tmp_path: Path, experiment_file: Path) -> None:
    path = edited(tmp_path, experiment_file, "name: tiny", "")
    assert refusal(path) == f"{path}: key 'name' is missing. Add it"


def test_further_mistakes_are_named(experiment_file: Path) -> None:
    line = refusal(experiment_file, "seed=x", "heads.embedding=1", "name=''")
    assert "(and 2 more: " in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not YAML: line 1: "),
        ("a: b: c", "is not YAML: line 1: mapping values are not allowed here"),
        ("x: !!python/object:os.system {}", "is not YAML: line 1: "),
        ("- a\n- b\n", "is not a mapping of keys to values"),
        ("just words", "is not a mapping of keys to values"),
        ("", "is not a mapping of keys to values"),
        ("name: 2024-13-45", "is not YAML"),
        ("seed: " + 5000 * "9", "is not YAML"),
    ],
)
def test_a_file_that_is_no_yaml_mapping(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert refusal(path).startswith(f"{path}: {message}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    absent, binary = tmp_path / "absent.yaml", tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00a")
    assert refusal(absent) == f"{absent}: no such file. Give the path of a YAML file"
    assert refusal(tmp_path) == f"{tmp_path}: is a folder. Give the path of the YAML file in it"
    assert refusal(binary) == f"{binary}: cannot be read (UnicodeDecodeError)"


def test_overrides_are_yaml_and_the_last_one_holds(experiment_file: Path) -> None:
    experiment = load(
        Experiment,
        experiment_file,
        ["seed=1", "seed=2", "image.size=[64, 48]", "loss.local={weight: 0.5}", "text.layers="],
    )
    assert (experiment.seed, experiment.image.size) == (2, (64, 48))
    assert (experiment.loss.local.weight, experiment.loss.local.start) == (0.5, 0.0)
    assert experiment.text.layers is None
    assert experiment.text.max_tokens == 24  # its neighbours stay


def test_overrides_make_new_sections(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")
    assert read_yaml(path, ["b.c.d=x=y", "b.e=[1]"]) == {"a": 1, "b": {"c": {"d": "x=y"}, "e": [1]}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "is not of the form a.b=value"),
        ("=1", "is not of the form a.b=value"),
        ("loss..weight=1", "is not of the form a.b=value"),
        ("seed=[1", "has a value that is not YAML"),
        ("name=2024-13-45", "has a value that is not YAML"),
        ("name=[&a [1], *a]", "has a value that is not YAML"),
        ("seed.x=1", "'seed' is a value, not a section"),
    ],
)
def test_overrides_that_cannot_be_put_in(
    experiment_file: Path, override: str, message: str
) -> None:
    assert refusal(experiment_file, override) == f"--set {override}: {message}"


@pytest.mark.parametrize(
    "text",
    ["a: &x [1]\nb: *x\n", "a: &a [1]\nb: &b [*a, *a]\n", "a: &m {c: 1}\nb:\n  <<: *m\n"],
)
def test_aliases_are_refused_by_their_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="aliases are not allowed") as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_deep_nesting_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_yaml(path)
