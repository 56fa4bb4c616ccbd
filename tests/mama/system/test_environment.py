"""The version of Flower that a service starts with."""

import re
from pathlib import Path

import pytest

from mama.system import environment
from mama.system.environment import TESTED_FLOWER, untested_flower

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("found", ["1.41.0", "1.42.3"])
def test_a_tested_version_is_no_warning(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "version", lambda name: found)
    assert untested_flower() is None


@pytest.mark.parametrize("found", ["1.40.0", "1.43.0", "2.0.0", "1.4.1", "1.410.0"])
def test_another_version_is_one_line_that_names_both(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "version", lambda name: found)
    warning = untested_flower()
    assert warning is not None
    assert "\n" not in warning
    assert found in warning
    assert "1.41 and 1.42" in warning


def test_the_installation_allows_the_tested_versions_alone() -> None:
    (low, high) = re.findall(
        r"flwr\[simulation\]>=1\.(\d+),<1\.(\d+)", (ROOT / "pyproject.toml").read_text()
    )[0]
    assert [f"1.{minor}" for minor in range(int(low), int(high))] == list(TESTED_FLOWER)
