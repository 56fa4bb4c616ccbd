"""The check of a GPU machine on this one: small models, a part that fails, one that takes long."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import check

ROOT = Path(__file__).parents[2]
QUICK = Namespace(quick=True)


@pytest.mark.slow
def test_small_parts_end_in_one_json_object() -> None:
    command = [sys.executable, "benchmarks/gpu/check.py", "--quick", "--only", "local", "noise"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    result = json.loads(lines[-1])
    assert [line.split()[0] for line in lines[:-1]] == ["local", "noise"]
    assert result["versions"].keys() == set(check.VERSIONS)
    assert result["local"]["fp32"]["seconds"] > 0
    assert result["noise"]["values"] == 100_000
    assert "failed" not in result["local"] | result["noise"]


def ended(out: str, error: str = "") -> Any:
    return lambda command, limit: subprocess.CompletedProcess(command, 1, out, error)


def test_a_part_that_fails_is_reported_with_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "run", ended("so far\n", "Traceback\nRuntimeError: no kernel"))
    found = check.figures("step", 1, QUICK)
    assert found == {"failed": ["Traceback", "RuntimeError: no kernel"], "output": ["so far"]}


def test_too_large_an_error_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "run", ended('{"fp32": {}, "failures": ["fp32 terms"]}\n'))
    assert check.figures("agreement", 1, QUICK) == {"fp32": {}, "failed": ["fp32 terms"]}


def test_tests_that_fail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    out = "FAILED tests/a.py::b - x\nERROR tests/c.py::d\n1 failed, 2 passed, 1 error in 3.00s\n"
    monkeypatch.setattr(check, "run", ended(out))
    found = check.tests(1, quick=True)
    assert found["summary"] == "1 failed, 2 passed, 1 error in 3.00s"
    assert found["failed"] == ["FAILED tests/a.py::b - x", "ERROR tests/c.py::d"]


def test_a_part_that_takes_too_long_is_stopped_with_all_its_processes() -> None:
    code = "import subprocess; subprocess.run(['sleep', '600'])"
    found = check.run([sys.executable, "-c", code], 1)
    assert found.returncode == -9
    assert "stopped after 1 s" in found.stderr
