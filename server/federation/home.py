"""Federation file, and the folder of keys and state that provisioning creates beside it."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from mama.config import Section
from mama.config.load import load
from mama.exchange.protocol import SiteName
from server.federation.passphrase import Passphrase, passphrase_from


def split_address(value: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port` into host and port."""
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


# Host names as in certificates: letters, digits, hyphens and dots; others in their xn-- form.
HOST = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?")
Address = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, AfterValidator(_host)]


class FederationFile(Section):
    """Settings of the coordinator. Relative paths are relative to the file's folder.

    Sites connect to `address`, and the service listens on `listen`: the same, or a loopback port
    behind a reverse proxy. `names` are further host names or IP addresses for the certificate.
    `models` maps base models' names to local folders or files, as in a site file, and `licences`
    maps them to their licences. `on_end` runs in the file's folder.

    `behind_a_firewall` allows `listen` to be reachable from other machines. Flower's control API
    shares that port and is unauthenticated: anyone who reaches it can stop runs and fill the disk.
    """

    name: SiteName
    """The federation's name."""
    address: Address
    """Host:port that sites connect to."""
    listen: Address = "127.0.0.1:8100"
    """Host:port that the service listens on."""
    behind_a_firewall: bool = False
    """Allow `listen` to be reachable from other machines."""
    names: list[Host] = []
    """Further host names and IP addresses for the certificate."""
    valid_days: int = Field(365, ge=1, le=825)
    """Validity of the server certificate in days."""
    state: Path = Path("state")
    """Folder for keys, roster and queue."""
    models: dict[str, Path] = {}
    """Folders of base models by name."""
    licences: dict[str, str] = {}
    """Licences of base models by name."""
    on_end: list[Annotated[str, Field(min_length=1, max_length=4096)]] = []
    """Command (list of words) to run when a run has finished, failed or was stopped."""

    @model_validator(mode="after")
    def _listens_on_this_machine(self) -> "FederationFile":
        host = split_address(self.listen)[0]
        if not self.behind_a_firewall and not _is_loopback(host):
            raise ValueError(
                f"listen {self.listen} is reachable from other machines, and anyone who reaches it "
                "can stop runs and fill the disk; listen on 127.0.0.1 behind the reverse proxy of "
                "deploy/nginx, or set behind_a_firewall: true"
            )
        return self

    @property
    def certificate_names(self) -> list[str]:
        """All names of this machine, including loopback, which its own processes connect to."""
        hosts = [split_address(a)[0] for a in (self.address, self.listen)]
        names = [*hosts, *self.names, "localhost", "127.0.0.1"]
        return [name for name in dict.fromkeys(names) if not _unspecified(name)]

    @property
    def loopback(self) -> str:
        """Address of the service for processes on this machine."""
        host, port = split_address(self.listen)
        if _unspecified(host):
            host = "127.0.0.1"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    """Return whether a host is loopback; of host names only `localhost` is."""
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
    """Federation file and the folder of its keys and state.

    Args:
        path: the federation file.
        passphrase: returns the passphrase of `ca.key`, called only when needed; by default prompts
            on the terminal.
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
        # Key of the requested certificate.
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
