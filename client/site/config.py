"""Site file: the settings that a hospital decides for itself; it never leaves the hospital."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from client.site.policy import PolicyConfig
from mama.config import Section
from mama.config.ingest import IngestConfig, PacsConfig
from mama.config.load import load
from mama.data.secret import read_secret
from mama.errors import ConfigError
from mama.exchange.protocol import Sha256, SiteName


class LicenceConfig(Section):
    """Terms under which the hospital has its data."""

    share_weights: bool | None = None
    """False if the licence lets no weights trained on the data be shared; null takes the adapter's
    preset (EMBED: false)."""


class DataConfig(Section):
    """The hospital's data.

    `source` is the hospital's folder; ingest keeps its manifest and image cache in `dataset`.
    `withdrawn` lists patients and studies, one per line and named as in the source, that are
    excluded from the next task on.
    """

    source: Path
    """The hospital's folder of images and reports."""
    adapter: str = "dicom_folder"
    """Layout of the source: dicom_folder, or a public data set (docs/data.md)."""
    pacs: PacsConfig | None = None
    """Archive that ingest pulls new studies from, into `source`; null pulls nothing."""
    dataset: Path
    """Folder of the ingested dataset."""
    withdrawn: Path | None = None
    """File that lists withdrawn patients and studies, which are excluded."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Fraction of patients in the test split if the data has no column `split`."""
    workers: int = Field(2, ge=1, le=256)
    """Worker processes of ingest."""
    ingest: IngestConfig = IngestConfig()
    """Patients' identity, kinds of images to keep, and reports."""
    licence: LicenceConfig = LicenceConfig()
    """Terms under which the hospital has its data."""


class BudgetConfig(Section):
    """Privacy budget per training patient over all private runs, zero-out (docs/privacy.md)."""

    epsilon: float = Field(8.0, gt=0, le=1000)
    """Epsilon that a patient may be charged over all private runs."""
    delta: float = Field(1e-5, gt=0, le=0.1)
    """Delta of the budget."""


class PeersConfig(Section):
    """This site's requirements for secure aggregation, and its keys if `coordinator` is missing.

    `key` is the site's own key; `roster` holds the public keys of all sites, signed with the key of
    the certificate `authority`.

    Whatever a coordinator requests, a round has at least `minimum_sites` sites, and its values have
    at least `least_bits` bits and a limit of at most `largest_limit` (SCAFFOLD's variates: at most
    100 times that).
    """

    key: Path = Path("node.key")
    """The site's private key, if there is no coordinator section."""
    roster: Path = Path("roster.json")
    """The signed roster, if there is no coordinator section."""
    authority: Path = Path("ca.crt")
    """Certificate of the authority that signed the roster."""
    minimum_sites: int = Field(3, ge=3, le=4096)
    """Smallest number of sites in a sum."""
    least_bits: int = Field(16, ge=8, le=30)
    """Smallest number of bits of a masked value."""
    largest_limit: float = Field(1.0, gt=0)
    """Largest limit that values may be clipped to."""


class CoordinatorConfig(Section):
    """The coordinator that this site works for.

    `certificate` is that of the federation's authority, `pin` the SHA-256 of its key, which the
    coordinator reads out by telephone; `key` is this site's own private key and never leaves.

    `client_certificate` is this site's own, issued by the coordinator, for proxies that require
    mutual TLS. `health` is the address of the gRPC health service; null starts none.
    """

    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$")]
    """Address of the coordinator, host:port."""
    certificate: Path = Path("ca.crt")
    """Certificate of the federation's authority."""
    pin: Sha256
    """SHA-256 of the authority's key."""
    key: Path = Path("node.key")
    """The site's private key."""
    client_certificate: Path | None = None
    """The site's certificate, if the coordinator's proxy requires one (mutual TLS)."""
    health: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")] | None = None
    """Address of the gRPC health service, host:port; null starts none."""


class SiteFile(Section):
    """One hospital's settings; relative paths are relative to the file's folder.

    `coordinator` is needed to take part in a federation, not to ingest or to simulate.

    `models` maps the names of base models in experiments to local folders or files, and `licences`
    maps them to their permitted use (`mama-site base add` enters both). `secret` is the file with
    the key of the pseudonyms, which the first ingest makes. `state` keeps the optimiser, coding
    errors and last model between rounds, and a checkpoint every `checkpoint_s` seconds within a
    round. `privacy` keeps the ledger and roster of private training over all runs: losing it ends
    private training with these patients.
    """

    site: SiteName
    """The site's name."""
    data: DataConfig
    """The hospital's data."""
    state: Path
    """Folder of the service and of the runs' state."""
    secret: Path
    """File with the key of the pseudonyms."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    threads: int | None = Field(None, ge=1, le=1024)
    """Processor threads of training; null uses all."""
    checkpoint_s: float = Field(300.0, ge=0, le=86400)
    """Seconds between checkpoints within a round."""
    models: dict[str, Path] = {}
    """Folders of base models, by name."""
    licences: dict[str, str] = {}
    """Licences of base models, by name."""
    policy: PolicyConfig = PolicyConfig()
    """The site's policy."""
    privacy: Path = Path("privacy")
    """Folder of the privacy ledger and of the record of sent answers."""
    budget: BudgetConfig = BudgetConfig()
    """The patients' privacy budget."""
    peers: PeersConfig | None = None
    """Terms of secure aggregation that the site requires."""
    coordinator: CoordinatorConfig | None = None
    """The coordinator that the site connects to; null connects to none."""

    def run_folder(self, run: str) -> Path:
        """Return the folder of one run's state.

        The coordinator names runs, so that their folders are separate from the service's files.
        """
        return self.state / "runs" / run

    def read_secret(self) -> bytes:
        """Return the site's key of the pseudonyms (32 bytes).

        Raises:
            DataError: the file is missing or damaged. Only ingest makes a key, for a new dataset.
        """
        return read_secret(self.secret)


def load_site(path: Path) -> SiteFile:
    """Read a site file and make its paths absolute.

    Raises:
        ConfigError: the file is missing, cut short, or has an unknown key, wrong type or invalid
            value.
    """
    site = load(SiteFile, path)
    if not path.read_bytes().endswith(b"\n"):
        raise ConfigError(
            "is cut short: its last line has no end",
            where=str(path),
            fix="Compare it with a copy, and end it with a line break",
        )
    home = path.resolve().parent
    pacs = site.data.pacs and site.data.pacs.model_copy(
        update={
            "ca": site.data.pacs.ca and home / site.data.pacs.ca,
            "credentials": site.data.pacs.credentials and home / site.data.pacs.credentials,
        }
    )
    data = site.data.model_copy(
        update={
            "source": home / site.data.source,
            "pacs": pacs,
            "dataset": home / site.data.dataset,
            "withdrawn": site.data.withdrawn and home / site.data.withdrawn,
        }
    )
    coordinator = site.coordinator and site.coordinator.model_copy(
        update={
            "certificate": home / site.coordinator.certificate,
            "key": home / site.coordinator.key,
            "client_certificate": site.coordinator.client_certificate
            and home / site.coordinator.client_certificate,
        }
    )
    peers = site.peers and site.peers.model_copy(
        update={
            "key": home / site.peers.key,
            "roster": home / site.peers.roster,
            "authority": home / site.peers.authority,
        }
    )
    return site.model_copy(
        update={
            "peers": peers,
            "coordinator": coordinator,
            "data": data,
            "state": home / site.state,
            "privacy": home / site.privacy,
            "secret": home / site.secret,
            "models": {name: home / place for name, place in site.models.items()},
        }
    )
