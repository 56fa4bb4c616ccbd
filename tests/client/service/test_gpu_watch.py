"""GPU that vanishes and returns between rounds is noticed; an absent one is not missed."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from client.service import gpu_watch, guard
from client.service.gpu_watch import NO_ANSWER, GpuWatch
from client.service.guard import Guard
from client.service.status import ServiceFolder, read_status
from client.site.config import load_site
from client.training.cuda import Fault
from mama.system.sealed import read_if_whole, write_sealed

GONE = Fault("lost", "CUDA is gone", "Restart the container")
ABSENT = Fault("absent", "no NVIDIA driver is found", "Check it")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fault | None]]:
    """Diagnoses of the children to come, all of which must be asked for."""
    to_come: list[Fault | None] = []
    monkeypatch.setattr(GpuWatch, "_ask", lambda self, device: to_come.pop(0))
    yield to_come
    assert to_come == []


def test_a_configured_gpu_that_goes_and_comes_back(looks: list[Fault | None]) -> None:
    watch = GpuWatch()
    looks += [None, GONE, GONE, None]
    assert watch.look("cuda") is None
    assert not watch.returned
    assert watch.look("cuda") == "CUDA is gone. Restart the container"
    assert watch.look("cuda") == "CUDA is gone. Restart the container"
    assert not watch.returned
    assert watch.look("cuda") is None
    assert watch.returned


def test_a_configured_gpu_that_was_never_there(looks: list[Fault | None]) -> None:
    looks += [ABSENT]
    assert GpuWatch().look("cuda:0") == str(ABSENT)


def test_a_site_on_the_cpu_never_looks(looks: list[Fault | None]) -> None:
    watch = GpuWatch(expected=True)
    assert watch.look("cpu") is None
    assert not watch.expected


def test_amds_gpus_are_not_asked_for_at_nvidia(
    looks: list[Fault | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert GpuWatch().look("cuda") is None


def test_auto_without_a_gpu_at_the_start_looks_once(looks: list[Fault | None]) -> None:
    watch = GpuWatch()
    looks += [GONE]
    assert [watch.look("auto"), watch.look("auto"), watch.expected] == [None, None, False]


def test_auto_with_a_gpu_at_the_start_misses_it(looks: list[Fault | None]) -> None:
    watch = GpuWatch()
    looks += [None, GONE]
    assert [watch.look("auto"), watch.look("auto")] == [None, str(GONE)]


def test_auto_that_an_earlier_process_had_a_gpu_for_misses_it(looks: list[Fault | None]) -> None:
    looks += [ABSENT]
    assert GpuWatch(expected=True).look("auto") == str(ABSENT)


def child(monkeypatch: pytest.MonkeyPatch, program: str) -> list[list[str]]:
    """Let the child do something else; the commands that were to be run."""
    commands: list[list[str]] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return popen([sys.executable, "-c", program], **options)

    monkeypatch.setattr(gpu_watch.subprocess, "Popen", start)
    return commands


def test_the_child_is_a_program_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    said = json.dumps({"kind": "lost", "cause": "CUDA is gone", "remedy": "Restart the container"})
    commands = child(monkeypatch, f"print({said!r})")
    assert GpuWatch().look("cuda:1") == str(GONE)
    expected = [sys.executable, "-I", "-m", "client.training.cuda", "cuda:1", "12.6"]
    assert commands == [expected]


def test_a_driver_that_hangs_is_not_asked_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_watch, "PATIENCE_S", 0.2)
    # As in the kernel, where a signal does not reach it.
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: None)
    commands = child(monkeypatch, "import time; time.sleep(30)")
    watch = GpuWatch()
    assert [watch.look("auto"), watch.expected] == [None, False]  # nor is it settled
    assert [watch.look("cuda"), watch.look("cuda")] == [NO_ANSWER, NO_ANSWER]
    assert len(commands) == 1
    assert not watch.returned
    assert watch._child is not None
    watch._child.terminate()
    watch._child.communicate()


def test_a_child_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "import os; os.abort()")
    assert GpuWatch().look("cuda") == NO_ANSWER


@pytest.fixture
def watching(edit: Callable[..., Path]) -> Callable[[str], Guard]:
    def make(device: str) -> Guard:
        path = edit(device=device)
        folder = ServiceFolder(load_site(path))
        folder.make()
        return Guard(path, folder)

    return make


def test_the_guard_records_it(
    watching: Callable[[str], Guard], looks: list[Fault | None], edit: Callable[..., Path]
) -> None:
    looks += [None, GONE]
    at_work = watching("cuda")
    folder = ServiceFolder(load_site(edit()))
    record = read_if_whole(folder.guard)
    assert (record["gpu_expected"], record["gpu_reason"], record["dataset"]) == (True, None, True)
    at_work._look()
    record = read_if_whole(folder.guard)
    assert (record["gpu_reason"], record["dataset"]) == (str(GONE), True)
    status = read_status(folder)
    assert not status.serving
    assert status.gpu is False
    # The guard of a service that is started again, as a container is.
    looks += [ABSENT, None]
    again = watching("auto")
    assert read_if_whole(folder.guard)["gpu_reason"] == str(ABSENT)
    again._look()
    assert read_if_whole(folder.guard)["gpu_reason"] is None
    assert again.gpu.returned


def test_the_guard_looks_between_tasks(
    watching: Callable[[str], Guard], looks: list[Fault | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks += [None]
    at_work = watching("cuda")
    runtime: Any = SimpleNamespace(next=lambda: nullcontext(None))
    at_work.work(runtime)  # too early for another look
    monkeypatch.setattr(guard, "LOOK_S", -1.0)
    looks += [GONE]
    at_work.work(runtime)
    assert at_work.record.values["gpu_reason"] == str(GONE)


def test_a_site_file_that_cannot_be_read_is_the_datas_reason(
    watching: Callable[[str], Guard], looks: list[Fault | None]
) -> None:
    looks += [None]
    at_work = watching("cuda")
    at_work.site_file.write_text("site: [")
    at_work._look()
    assert at_work.record.values["dataset"] is False
    assert at_work.record.values["gpu_reason"] is None


def test_a_guard_whose_gpu_is_back_ends_to_be_started_again(
    site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that found no GPU through CUDA once finds none until it ends."""

    class EndedError(Exception):
        pass

    def end(code: int) -> None:
        raise EndedError(code)

    class Working:
        def __init__(self, *_: object):
            self.gpu = GpuWatch()
            self.worked = 0

        def room(self, header: object) -> int:
            return 0

        def work(self, runtime: object) -> None:
            self.worked += 1
            self.gpu.returned = self.worked == 3

    folder = ServiceFolder(load_site(site_file))
    folder.make()
    folder.secret.write_bytes(b"secret")
    monkeypatch.setattr(guard, "require_installed_code", lambda: None)
    monkeypatch.setattr(guard.signal, "signal", lambda *_: None)
    monkeypatch.setattr(guard, "take_tasks_within", lambda room: None)
    monkeypatch.setattr(guard, "Guard", Working)
    monkeypatch.setattr(guard, "Runtime", lambda *_: None)
    monkeypatch.setattr(guard.os, "_exit", end)
    with pytest.raises(EndedError, match="0"):
        guard.main(site_file, 1)


def test_an_unreadable_record_of_an_earlier_guard_expects_nothing(
    watching: Callable[[str], Guard], looks: list[Fault | None], site_file: Path
) -> None:
    folder = ServiceFolder(load_site(site_file))
    folder.make()
    write_sealed(folder.guard, {"gpu_expected": None})
    looks += [ABSENT]
    assert watching("auto").record.values["gpu_reason"] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_this_machines_gpu() -> None:
    watch = GpuWatch()
    assert watch.look("auto") is None
    assert watch.expected
