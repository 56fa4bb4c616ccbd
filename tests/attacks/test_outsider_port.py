"""The coordinator's port lets anyone stop runs and fill the disk: it must be local only."""

from pathlib import Path

import pytest

from mama.errors import ConfigError
from server.federation.home import Home

EXPOSED = ["0.0.0.0", "[::]", "10.0.0.7", "fl.example.org", "[::ffff:10.0.0.7]", "[::ffff:0.0.0.0]"]
OWN = ["127.0.0.1", "127.0.0.2", "localhost", "[::1]", "[::ffff:127.0.0.1]"]


def home(folder: Path, listen: str, more: str = "") -> Home:
    path = folder / "federation.yaml"
    path.write_text(f"name: x\naddress: fl.example.org:443\nlisten: '{listen}:8100'\n{more}")
    return Home(path)


@pytest.mark.parametrize("listen", EXPOSED)
def test_a_port_beyond_this_machine_needs_a_word(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match="behind_a_firewall: true") as error:
        home(tmp_path, listen)
    assert "\n" not in str(error.value)
    assert home(tmp_path, listen, "behind_a_firewall: true\n").file.listen == f"{listen}:8100"


@pytest.mark.parametrize("listen", OWN)
def test_a_port_of_this_machine_needs_none(tmp_path: Path, listen: str) -> None:
    assert home(tmp_path, listen).file.listen == f"{listen}:8100"
