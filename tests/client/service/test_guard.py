"""Guard: it runs the installed code or nothing, and takes only the message from a run."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message

import client.service.installed
from client.service import guard
from client.service.guard import Guard
from client.service.installed import installed_file, require_installed_code
from client.service.status import ServiceFolder, read_status
from client.site.config import load_site
from mama.errors import ServiceError
from mama.exchange.protocol import Answer
from mama.system.sealed import read_if_whole

ROOT = Path(__file__).parents[3]
FILE = "site: north\ndata: {source: archive, dataset: dataset}\nstate: state\nsecret: secret.key\n"
REPLY: Any = SimpleNamespace(content={})


def test_without_isolation_it_does_not_start(tmp_path: Path) -> None:
    """`python -m` puts the working directory first, where a folder `client` could be anybody's."""
    (tmp_path / "site.yaml").write_text(FILE)
    command = [sys.executable, "-m", "client.service.guard", str(tmp_path / "site.yaml"), "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "error: guard: runs without `python -I`. Use `mama-site start`\n"


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(client.service.installed.sys, "flags", SimpleNamespace(isolated=1))
    return monkeypatch


def distribution_in(folder: Path, origin: dict[str, Any] | None) -> Distribution:
    """An installed fedmama whose files lie in a folder."""
    information = folder / "fedmama-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fedmama\nVersion: 1\n")
    if origin:
        (information / "direct_url.json").write_text(json.dumps(origin))
    return Distribution.at(information)


def test_another_package_of_our_name_is_noticed(
    isolated: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = distribution_in(tmp_path / "site-packages", None)
    isolated.setattr(client.service.installed, "distribution", lambda name: installed)
    expected = tmp_path / "site-packages" / "client" / "__init__.py"
    assert installed_file("client/__init__.py") == expected
    with pytest.raises(ServiceError, match="another package was imported") as error:
        require_installed_code()
    assert str(expected) in str(error.value)


def test_a_development_install_lies_in_its_checkout(
    isolated: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    origin = {"url": ROOT.as_uri(), "dir_info": {"editable": True}}
    installed = distribution_in(tmp_path / "site-packages", origin)
    isolated.setattr(client.service.installed, "distribution", lambda name: installed)
    require_installed_code()
    origin["url"] = tmp_path.as_uri()
    elsewhere = distribution_in(tmp_path / "other", origin)
    isolated.setattr(client.service.installed, "distribution", lambda name: elsewhere)
    with pytest.raises(ServiceError, match="another package was imported"):
        require_installed_code()


def test_without_an_installation_nothing_runs(isolated: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    isolated.setattr(client.service.installed, "distribution", missing)
    with pytest.raises(ServiceError, match="fedmama is not installed"):
        require_installed_code()


class FakeAssignment:
    """An assignment that remembers its answer."""

    def __init__(self, *, bundle: str = "a" * 64, for_client_app: bool = True):
        self.bundle, self.for_client_app = bundle, for_client_app
        metadata = SimpleNamespace(run_id=7, dst_node_id=9, message_type="train", group_id="1")
        self.message = SimpleNamespace(metadata=metadata)
        self.replies: list[Any] = []
        self.refusals: list[tuple[str, bool]] = []

    def reply(self, message: Message) -> None:
        self.replies.append(message)

    def refuse(self, reason: str, *, bundle: bool = False) -> None:
        self.refusals.append((reason, bundle))


@pytest.fixture
def make_guard(tmp_path: Path) -> Callable[[str], Guard]:
    def make(policy: str = "{}") -> Guard:
        path = tmp_path / "site.yaml"
        path.write_text(FILE + f"policy: {policy}\n")
        folder = ServiceFolder(load_site(path))
        folder.make()
        return Guard(path, folder)

    return make


def test_the_app_gets_the_site_file_and_nothing_of_the_runs(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contexts: list[Context] = []

    def app(message: Any, context: Context) -> Any:
        contexts.append(context)
        return REPLY

    monkeypatch.setattr(guard, "app", app)
    assignment = FakeAssignment()
    make_guard()._do(assignment)  # type: ignore[arg-type]
    assert (assignment.replies, assignment.refusals) == ([REPLY], [])
    (context,) = contexts
    assert dict(context.node_config) == {"site-file": str(tmp_path / "site.yaml")}
    assert dict(context.run_config) == {}
    assert len(context.state) == 0


def test_other_tasks_than_a_clientapps_are_refused(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "app", lambda *_: pytest.fail("was called"))
    assignment = FakeAssignment(for_client_app=False)
    make_guard()._do(assignment)  # type: ignore[arg-type]
    assert assignment.refusals == [("this site runs ClientApps only", False)]


def test_only_bundles_on_the_list(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "app", lambda *_: REPLY)
    kept = make_guard(f"{{bundles: ['{'a' * 64}']}}")
    good, bad = FakeAssignment(), FakeAssignment(bundle="b" * 64)
    for assignment in (good, bad):
        kept._do(assignment)  # type: ignore[arg-type]
    assert good.replies == [REPLY]
    assert bad.replies == []
    assert bad.refusals == [("this site does not allow the run's bundle", True)]
    none = FakeAssignment()
    make_guard("{bundles: []}")._do(none)  # type: ignore[arg-type]
    assert none.replies == []


def test_the_text_of_an_unexpected_error_stays_here(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(*_: object) -> None:
        raise ValueError("patient MARY SMITH")

    monkeypatch.setattr(guard, "app", app)
    assignment = FakeAssignment()
    make_guard()._do(assignment)  # type: ignore[arg-type]
    assert assignment.refusals == [("the site's guard: ValueError", False)]


def test_how_its_tasks_ended_is_in_its_record(
    site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ServiceFolder(load_site(site_file))
    folder.make()
    watching = Guard(site_file, folder)

    def code_after(code: str) -> dict[str, Any]:
        said = Answer(run="r", round=1, task="t", site="alder", status=code).encode()
        content = {"header": ConfigRecord({"json": said})}
        monkeypatch.setattr(guard, "app", lambda *_: SimpleNamespace(content=content))
        runtime = SimpleNamespace(next=lambda: nullcontext(FakeAssignment()))
        watching.work(runtime)  # type: ignore[arg-type]
        return read_if_whole(folder.guard)["outcomes"]["train"]

    for failures in (1, 2):
        found = code_after("disk_full")
        assert (found["code"], found["round"], found["failures"]) == ("disk_full", "1", failures)
    assert not read_status(folder).serving
    assert code_after("ok")["failures"] == 0


def test_a_missing_dataset_is_said_in_its_record(
    make_guard: Callable[..., Guard], tmp_path: Path
) -> None:
    make_guard()
    record = read_if_whole(ServiceFolder(load_site(tmp_path / "site.yaml")).guard)
    assert record["dataset"] is False
    assert "no such folder" in record["reason"]


def test_data_that_comes_or_goes_is_noticed_and_the_list_of_bundles_is_read_anew(
    make_guard: Callable[..., Guard], site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ServiceFolder(load_site(site_file))
    folder.make()
    watching = Guard(site_file, folder)
    assert read_if_whole(folder.guard)["dataset"] is True
    dataset = folder.site.data.dataset
    dataset.rename(dataset.with_name("away"))
    watching._look_at_data()
    assert read_if_whole(folder.guard)["dataset"] is False
    dataset.with_name("away").rename(dataset)
    watching._look_at_data()
    assert read_if_whole(folder.guard) | {"dataset": True, "reason": None} == read_if_whole(
        folder.guard
    )

    monkeypatch.setattr(guard, "app", lambda *_: REPLY)
    kept = make_guard()
    kept.site_file.write_text(FILE + "policy: {bundles: []}\n")
    assignment = FakeAssignment()
    kept._do(assignment)  # type: ignore[arg-type]
    assert assignment.replies == []
