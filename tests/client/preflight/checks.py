"""Checks by name, and changes of the site file that they look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from client.preflight.check import Check


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    """Return each check by its name."""
    return {check.name: check for check in checks}


def change(path: Path, **settings: Any) -> None:
    """Change keys of a site file; those of its policy that are not named stay."""
    before = yaml.safe_load(path.read_text())
    if "policy" in settings:
        settings["policy"] = before["policy"] | settings["policy"]
    path.write_text(yaml.safe_dump(before | settings))
