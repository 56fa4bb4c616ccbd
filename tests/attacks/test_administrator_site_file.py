"""A site file that was cut short, or saved half done, never puts a weaker policy in force."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from client.cli import main
from client.errors import RefusedError
from client.handlers import answer
from client.policy.in_force import AT_LEAST_AS_STRICT, put_in_force, weaker
from client.site.config import PolicyConfig, SiteFile, load_site
from mama.errors import ConfigError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task

FILE = """site: north
data: {source: archive, dataset: dataset, withdrawn: withdrawn.txt}
state: state
secret: secret.key
privacy: ../ledger
budget: {epsilon: 2, delta: 1.0e-6}
peers: {minimum_sites: 5, largest_limit: 0.5}
policy: {minimum_cell: 10, min_cohort: 4,
  require_privacy: true, approval: true}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "site" / "site.yaml"
    path.parent.mkdir()
    path.write_text(FILE)
    put_in_force(load_site(path))
    return path


def prefixes(path: Path) -> list[SiteFile]:
    """What loads of all prefixes of the file, with a line break at the end or without."""
    found = []
    for length in range(len(FILE)):
        for end in ("", "\n"):
            path.write_text(FILE[:length] + end)
            try:
                found.append(load_site(path))
            except ConfigError:
                continue
    return found


def test_no_prefix_is_in_force_with_a_weaker_policy(path: Path) -> None:
    whole, loaded = load_site(path), prefixes(path)
    # The attack: what loads, and would be in force if nothing were remembered.
    assert sum(not site.policy.require_privacy for site in loaded) > 5
    assert any(site.budget.epsilon == 8 for site in loaded)
    assert any(site.peers is None for site in loaded)
    for site in loaded:
        if site == whole:
            put_in_force(site)
            continue
        with pytest.raises(RefusedError, match="the policy is weaker") as error:
            put_in_force(site)
        assert error.value.code == ErrorCode.POLICY_WEAKER
        assert "\n" not in str(error.value)


def test_a_file_without_its_last_line_break_is_refused(path: Path) -> None:
    path.write_text(FILE.rstrip("\n"))
    with pytest.raises(ConfigError, match="is cut short"):
        load_site(path)


def change(path: Path, section: str, **values: object) -> SiteFile:
    settings = yaml.safe_load(path.read_text())
    settings[section] = settings.get(section, {}) | values
    path.write_text(yaml.safe_dump(settings))
    return load_site(path)


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("policy", "minimum_cell", (10, 20)),
        ("policy", "max_local_steps", (900, 100)),
        ("policy", "max_round_s", (None, 60, 30)),
        ("policy", "bundles", (None, ["a" * 64, "b" * 64], ["a" * 64], [])),
        ("policy", "metrics", (["loss", "zero_shot"], ["zero_shot"], [])),
        ("policy", "allow", (["scaffold"], [])),
        ("policy", "hours", (None, "20:00-06:00")),
        ("policy", "auto_approve", ({"max_steps": 4}, None)),
        ("policy", "max_model_step", (None, 20, 5)),
        ("budget", "epsilon", (2, 1)),
        ("peers", "minimum_sites", (5, 6)),
        ("data", "withdrawn", (None, "list.txt")),
    ],
)
def test_each_rule_gets_stricter_by_itself_and_weaker_by_a_person(
    path: Path, command: Callable, section: str, key: str, values: tuple
) -> None:
    change(path, section, **{key: values[0]})
    command(main, "policy", path, "--accept")
    for value in values[1:]:
        put_in_force(change(path, section, **{key: value}))
    for value in values[-2::-1]:
        site = change(path, section, **{key: value})
        assert f"{section}.{key}: " in weaker(site)
        ended = command(main, "policy", path)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        with pytest.raises(RefusedError):
            put_in_force(site)
        assert command(main, "policy", path, "--accept").code == 0
        put_in_force(site)


def test_another_place_of_the_ledger_is_weaker_and_a_moved_folder_is_not(path: Path) -> None:
    path.write_text(FILE.replace("../ledger", "privacy"))
    assert "privacy: " in weaker(load_site(path))
    path.write_text(FILE)
    moved = path.parent.rename(path.parent.with_name("moved"))
    put_in_force(load_site(moved / "site.yaml"))


@pytest.mark.parametrize("data", [b"", b"[1, 2]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_a_damaged_record_waits_for_a_person(path: Path, command: Callable, data: bytes) -> None:
    (path.parent / "state" / "service" / "policy.json").write_bytes(data)
    with pytest.raises(RefusedError, match="record of the policy in force is damaged"):
        put_in_force(load_site(path))
    assert command(main, "policy", path, "--accept").code == 0
    put_in_force(load_site(path))


def test_every_rule_of_the_policy_has_a_direction() -> None:
    assert {f"policy.{key}" for key in PolicyConfig.model_fields} <= set(AT_LEAST_AS_STRICT)


def test_a_running_service_refuses_every_task_until_then(
    site_files: Callable, small_config: Callable, command: Callable
) -> None:
    path, experiment = site_files()[0], small_config().experiment()
    task = Task(
        run="r",
        round=1,
        task="describe",
        kind="describe",
        experiment=experiment.canonical_json(),
        experiment_hash=experiment.hash(),
    )

    def status() -> str:
        return answer(load_site(path), task.encode(), b"")[0].status

    assert status() == "ok"
    change(path, "policy", require_privacy=True)
    assert status() == "policy_privacy"
    change(path, "policy", require_privacy=False)
    assert status() == "policy_weaker"
    command(main, "policy", path, "--accept")
    assert status() == "ok"
