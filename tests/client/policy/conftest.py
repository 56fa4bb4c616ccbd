"""Site with rules of its own, and the experiment that it is asked to take part in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.site.config import SiteFile, load_site
from mama.config import Experiment

FILE = "site: north\ndata: {source: archive, dataset: dataset}\nstate: state\nsecret: secret.key\n"


@pytest.fixture
def site_with(tmp_path: Path) -> Callable[..., SiteFile]:
    def make(**policy: Any) -> SiteFile:
        path = tmp_path / "site.yaml"
        path.write_text(
            FILE + f"policy: {policy}\n".replace("None", "null").replace("True", "true")
        )
        return load_site(path)

    return make


@pytest.fixture
def asks(small_config: Callable[..., Any]) -> Callable[..., Experiment]:
    return lambda *overrides: small_config(*overrides).experiment()
