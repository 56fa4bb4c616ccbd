"""The federation file, and the folder of keys and state that provisioning makes beside it."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from mama.config import Section
from mama.configfile import load
from mama.exchange.protocol import SiteName
from server.passphrase import Passphrase, passphrase_from


def split_address(value: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be host:port")
    return host.strip("[]"), int(port)


def _address(value: str) -> str:
    _host(split_address(value)[0])
    return value


def _host(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        if not HOST.fullmatch(value):
            raise ValueError("must be a host name or an IP address, without https://") from None
    return value


# A name in letters, digits, hyphens and dots, as certificates hold it; others go in their xn-- form.
HOST = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?")
Address = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, AfterValidator(_host)]


class FederationFile(Section):
    """What a coordinator decides. Relative paths count from the file's folder.

    `address` is where sites connect, `listen` where the service waits for them on this machine: the same, or behind a
    reverse proxy a port on loopback. `names` are further host names or IP addresses for the certificate. `models` maps
    base models' names to local folders or files, as in a site file.

    `behind_a_firewall` allows a `listen` beyond this machine. Flower's control interface shares that port and asks for
    no password: whoever reaches it can stop runs and fill the disk.
    """

    name: SiteName
    """The federation's name."""
    address: Address
    """Host:port where sites connect."""
    listen: Address = "127.0.0.1:8100"
    """Host:port where the service waits on this machine."""
    behind_a_firewall: bool = False
    """Allow a listen beyond this machine."""
    names: list[Host] = []
    """Further names and addresses for the certificate."""
    valid_days: int = Field(365, ge=1, le=825)
    """Days that a server's certificate is valid."""
    state: Path = Path("state")
    """Folder of keys, roster and queue."""
    models: dict[str, Path] = {}
    """Folders of base models by name."""

    @model_validator(mode="after")
    def _listens_on_this_machine(self) -> "FederationFile":
        host = split_address(self.listen)[0]
        if not self.behind_a_firewall and not _is_loopback(host):
            raise ValueError(
                f"listen {self.listen} is not on this machine alone, and whoever reaches it can stop runs and "
                "fill the disk; listen on 127.0.0.1 behind the reverse proxy of deploy/nginx, or set "
                "behind_a_firewall: true"
            )
        return self

    @property
    def certificate_names(self) -> list[str]:
        """Every name under which this machine answers, loopback included: its own processes connect there."""
        hosts = [split_address(a)[0] for a in (self.address, self.listen)]
        names = [*hosts, *self.names, "localhost", "127.0.0.1"]
        return [name for name in dict.fromkeys(names) if not _unspecified(name)]

    @property
    def loopback(self) -> str:
        """Where processes of this machine reach the service."""
        host, port = split_address(self.listen)
        if _unspecified(host):
            host = "127.0.0.1"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    """True if a host is this machine and nothing else; of names only `localhost` counts."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


class Home:
    """A federation's file and the folder of its keys and state.

    Args:
        path: the federation file.
        passphrase: gives that of `ca.key`, and is called only where it is needed; by default the terminal is asked.
    """

    def __init__(self, path: Path, passphrase: Passphrase | None = None):
        self.passphrase = passphrase or passphrase_from(None)
        self.path = path.resolve()
        self.file = load(FederationFile, path)
        self.state = self.path.parent / self.file.state
        self.ca_certificate = self.state / "ca.crt"
        self.ca_key = self.state / "ca.key"
        self.certificate = self.state / "server.crt"
        self.key = self.state / "server.key"
        # Of the certificate that was asked for.
        self.next_key = self.state / "server.key.next"
        self.unsigned = self.state / "unsigned.json"
        self.secret = self.state / "executor.secret"
        self.roster = self.state / "roster.json"
        self.jobs = self.state / "jobs"
        self.log = self.state / "federation.log"
        self.status = self.state / "status.json"
        self.database = self.state / "flower" / "link.db"
        self.flower_home = self.state / "flower"
        self.models = {name: self.path.parent / place for name, place in self.file.models.items()}
