"""Federation over the small hospitals; a test can change any message or silence any node."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client.app import make_app
from mama.config import Experiment
from mama.exchange.fingerprint import describe
from mama.exchange.update import initial_arrays
from mama.model import build_model
from server.round.run import FederatedRun
from server.run.context import RunContext
from server.run.folder import RunFolder
from sim.engines.inprocess import InProcessGrid
from tests.server.bench import bench as bench
from tests.server.bench import folder as folder
from tests.server.faults import (
    BASE,
    FakeSites,
    FaultyGrid,
    Plan,
    World,
    fine,
    freeze_time,
    initial,
    small_experiment,
)

# What a test makes of an answer: (site, task kind, round, header, tensors) -> (header, tensors).
# A RuntimeError becomes what Flower sends when a ClientApp raises.
Change = Callable[[str, str, int, str, bytes], tuple[str, bytes]]


@dataclass
class Outcome:
    """A run's folder and what the sites sent, unchanged, by (site, kind, round)."""

    folder: RunFolder
    events: list[dict[str, Any]]
    sent: dict[tuple[str, str, int], tuple[dict[str, Any], bytes]] = field(default_factory=dict)

    @property
    def problems(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "problem"]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "round"]

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder.path / "metrics.json").read_text())


class Meddler(ClientApp):
    """The site's own app, whose answers pass through a test's hands."""

    def __init__(self, change: Change, outcome: Outcome):
        super().__init__()
        self.app, self.change, self.outcome = make_app(), change, outcome

    def __call__(self, message: Message, context: Context) -> Message:
        task = json.loads(str(message.content.config_records["header"]["json"]))
        reply = self.app(message, context)
        header = str(reply.content.config_records["header"]["json"])
        data = reply.content.array_records["payload"]["tensors"].data
        site = Path(str(context.node_config["site-file"])).parent.name
        self.outcome.sent[site, task["kind"], task["round"]] = json.loads(header), data
        try:
            header, data = self.change(site, task["kind"], task["round"], header, data)
        except RuntimeError as error:
            return Message(
                Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message
            )
        block = Array(dtype="uint8", shape=(len(data),), stype="safetensors", data=data)
        content = RecordDict(
            {"header": ConfigRecord({"json": header}), "payload": ArrayRecord({"tensors": block})}
        )
        return Message(content, reply_to=message)


class PartlyDeafGrid(InProcessGrid):
    """Messages to the `silent` nodes from round 1 on are never answered."""

    silent: tuple[int, ...] = ()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            lost = message.metadata.dst_node_id in self.silent and message.metadata.group_id != "0"
            names += ["never"] if lost else super().push_messages([message])
        return names


@pytest.fixture(scope="session")
def new_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Experiment, Path], RunFolder]:
    """A copy of a run's folder before its first round; each experiment's model is built once."""
    made: dict[str, Path] = {}

    def copy(experiment: Experiment, target: Path) -> RunFolder:
        if experiment.hash() not in made:
            torch.set_num_threads(1)
            model = build_model(experiment)
            path = tmp_path_factory.mktemp("run") / "out"
            RunFolder.create(
                path, experiment, initial_arrays(model, experiment.strategy), describe(model)
            )
            made[experiment.hash()] = path
        shutil.copytree(made[experiment.hash()], target)
        return RunFolder(target)

    return copy


def unchanged(site: str, kind: str, number: int, header: str, data: bytes) -> tuple[str, bytes]:
    return header, data


@pytest.fixture
def run_federation(small_config, site_files, new_run, tmp_path) -> Callable[..., Outcome]:
    """Run the server's own loop over the small hospitals; `change` meddles with their answers."""

    def run(
        change: Change = unchanged,
        *overrides: str,
        silent: tuple[int, ...] = (),
        files: list[Path] | None = None,
    ) -> Outcome:
        folder = new_run(small_config(*overrides).experiment(), tmp_path / "run")
        outcome = Outcome(folder, [])
        files = files or site_files("sites")
        grid = PartlyDeafGrid(Meddler(change, outcome), files)
        grid.silent = silent
        run = RunContext(
            folder,
            lambda event: outcome.events.append(event.record()),
            expected=len(files),
            slots=1,
        )
        FederatedRun(grid, run).run()
        return outcome

    return run


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """A federation of fake sites whose messages go the way that a plan says."""

    def make(
        plan: Plan = fine,
        sites: tuple[str, ...] = ("alder", "birch", "cedar"),
        privacy: dict[str, Any] | None = None,
        out: str = "run",
        **federation: Any,
    ) -> World:
        clock, app = freeze_time(monkeypatch), FakeSites()
        experiment = small_experiment(privacy, **federation)
        folder = RunFolder.create(tmp_path / out, experiment, initial(), BASE)
        return World(folder, FaultyGrid(app, sites, clock, plan), app, clock)

    return make
