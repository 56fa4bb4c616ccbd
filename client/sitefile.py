"""The site file: what a hospital decides for itself. It never leaves the hospital."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config import Experiment, Section
from mama.configfile import load
from mama.data.secret import read_secret
from mama.errors import ConfigError
from mama.exchange.protocol import Sha256, SiteName

HOURS = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"


class DataConfig(Section):
    """`source` is the hospital's folder, `dataset` where ingest keeps manifest and image cache. `withdrawn` lists
    patients and studies, one name a line as in the source, that are left out from the next task on.
    """

    source: Path
    """The hospital's folder of images and reports."""
    adapter: str = "dicom_folder"
    """Layout of the source: dicom_folder or mias."""
    dataset: Path
    """Folder of the ingested dataset."""
    withdrawn: Path | None = None
    """File that lists withdrawn patients and studies; they are left out."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of patients in the test split, where no column `split` decides."""
    workers: int = Field(2, ge=1, le=256)
    """Worker processes of ingest."""


class AutoApproval(Section):
    """What needs no person's approval: an experiment within all of these.

    `max_steps` are local steps of the whole run; `private` asks for patient-level privacy, `secure` for secure
    aggregation.
    """

    max_steps: int = Field(ge=1)
    """Largest number of local steps of a run, over all rounds."""
    private: bool = False
    """Approve only experiments with patient-level privacy."""
    secure: bool = False
    """Approve only experiments with secure aggregation."""

    def covers(self, experiment: Experiment) -> bool:
        """Whether an experiment stays within the rule."""
        return (
            experiment.total_steps <= self.max_steps
            and (experiment.privacy.mode == "patient" or not self.private)
            and (experiment.privacy.secure is not None or not self.secure)
        )


class PolicyConfig(Section):
    """`minimum_cell`: counts of studies or breasts below it do not leave the site; the numbers of training
    studies and their patients, an update's weight, do. `label_odds`: the most by which all
    evaluations together may change the odds of a label of one breast or study; null lets the labels count as they
    are, for public data. `max_evaluations`: how many models are evaluated in a calendar month, enough for two runs
    of 100 rounds that evaluate every 5.

    `max_round_s`: seconds of training a round after which the site
    sends what it has; null sets no limit. `bundles`: SHA-256 of the app bundles that may come with a run; they are
    never opened, so without a list any is let be.

    `base_models`: the towers that an experiment may use; without a list any. `min_cohort`: an experiment whose
    quorum or roster is smaller is refused. `require_privacy`: only experiments with patient-level differential
    privacy, without which the budget bounds the private runs alone. `require_secure`: only experiments under secure
    aggregation. `hours`: local time in which tasks are done, such as 20:00-06:00. `max_upload_mb`: largest update, in
    megabytes. `max_gpu_gib`: the most that tensors on the GPU take, in GiB. `approval`: a person approves every
    experiment, but for those that `auto_approve` covers. `max_round_steps`: as `max_round_s`, in steps. `metrics`: the
    groups of figures that leave; others are left out of the answers.

    `min_patients_step` and `min_patients_update`: distinct patients that a step and an update rest on at least, except
    under patient-level differential privacy. `allow`: what an experiment may do beyond `client/bounds.py`:
    `scaffold`, `guidance`, `augment`, or the key of a bounded value. `max_parameters`: of the whole model.
    `max_model_step`: how many times as far as this site's last update a round may move a tensor of the global model;
    the first model must be the one that the site builds itself. null takes any model.
    """

    minimum_cell: int = Field(5, ge=1, le=1000)
    """Smallest count of studies or breasts that may leave."""
    label_odds: float | None = Field(3.0, gt=1, le=100)
    """Largest factor by which all evaluations together change the odds of a label; null turns masking off."""
    max_evaluations: int = Field(40, ge=0, le=100_000)
    """Largest number of models evaluated a month."""
    max_local_steps: int = Field(10_000, ge=1)
    """Largest number of local steps a round; experiments with more are refused."""
    max_round_s: float | None = Field(None, gt=0, le=30 * 86400)
    """Seconds of training after which a round ends early; null sets no limit."""
    max_round_steps: int | None = Field(None, ge=1)
    """Steps after which a round ends early; null sets no limit."""
    bundles: list[Sha256] | None = None
    """SHA-256 of the app bundles that are accepted (their code is never run); null accepts any."""
    base_models: list[str] | None = None
    """Names of the base models that are accepted; null accepts any."""
    min_cohort: int = Field(1, ge=1, le=10_000)
    """Smallest quorum, and roster, of an experiment that is accepted."""
    require_privacy: bool = False
    """Refuse experiments without patient-level privacy."""
    require_secure: bool = False
    """Refuse experiments without secure aggregation."""
    hours: Annotated[str, Field(pattern=HOURS)] | None = None
    """Hours of the day in which the site trains, such as 20:00-06:00; null trains at any hour."""
    max_upload_mb: float | None = Field(None, gt=0)
    """Largest update that is sent; null sets no limit."""
    max_gpu_gib: float | None = Field(None, gt=0)
    """Largest GPU memory that is used; null sets no limit."""
    approval: bool = False
    """Every experiment waits for a person's approval."""
    auto_approve: AutoApproval | None = None
    """Experiments within these limits need no approval; null needs it for all."""
    metrics: list[Literal["loss", "zero_shot", "linear_probe"]] = ["zero_shot", "linear_probe"]
    """Groups of figures that may leave."""
    min_patients_step: int = Field(8, ge=1, le=100_000)
    """Smallest number of patients in a step's batch."""
    min_patients_update: int = Field(32, ge=1, le=1_000_000)
    """Smallest number of patients behind an update."""
    allow: list[Annotated[str, Field(max_length=64)]] = []
    """Methods and keys that are allowed beyond the default bounds."""
    max_parameters: int = Field(1_000_000_000, ge=1)
    """Largest number of parameters of a model."""
    max_model_step: float | None = Field(10.0, gt=0, le=1e6)
    """Largest move of a tensor of the model in a round, as a multiple of the site's own; null sets no limit."""

    @model_validator(mode="after")
    def _rule_of_approvals(self) -> "PolicyConfig":
        if self.auto_approve and not self.approval:
            raise ValueError("auto_approve makes exceptions from approval; set approval: true")
        return self


class BudgetConfig(Section):
    """The most that private runs together may tell of one training patient, zero-out (docs/privacy.md)."""

    epsilon: float = Field(8.0, gt=0, le=1000)
    """Epsilon that a patient may be charged, over all private runs."""
    delta: float = Field(1e-5, gt=0, le=0.1)
    """Delta of the budget."""


class PeersConfig(Section):
    """What this site insists on under secure aggregation, and, where there is no `coordinator`, the keys for it: this
    site's own in `key`, all sites' public ones in `roster`, signed with the key of the certificate `authority`.

    Whatever a coordinator asks, a round has `minimum_sites` or more, and its values have `least_bits` or more and a
    limit of at most `largest_limit`, SCAFFOLD's variates of at most 100 times that.
    """

    key: Path = Path("node.key")
    """The site's private key, where there is no coordinator section."""
    roster: Path = Path("roster.json")
    """The signed roster, where there is no coordinator section."""
    authority: Path = Path("ca.crt")
    """Certificate of the authority that signed the roster."""
    minimum_sites: int = Field(3, ge=3, le=4096)
    """Smallest number of sites in a sum."""
    least_bits: int = Field(16, ge=8, le=30)
    """Smallest number of bits of a masked value."""
    largest_limit: float = Field(1.0, gt=0)
    """Largest limit that values may be clipped to."""


class CoordinatorConfig(Section):
    """Whom this site works for. `certificate` is the federation's authority, `pin` the SHA-256 of its key as the
    coordinator read it out by telephone; `key` is this site's own, which never leaves.

    `client_certificate` is this site's own, from the coordinator, for a door that asks for it (mutual TLS). `health` is
    where the gRPC health service listens, none where it is left out.
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
    """The site's certificate, where the coordinator's door asks for one (mutual TLS)."""
    health: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")] | None = None
    """Address of the gRPC health service, host:port; null starts none."""


class SiteFile(Section):
    """One hospital's settings. Relative paths count from the file's folder.

    `coordinator` is needed to take part in a federation, not to ingest or to simulate.

    `models` maps names of base models in experiments to local folders or files, `licences` to what they may be used for
    (`mama-site base add` enters both); `secret` is a file with the key
    of the pseudonyms, made by the first ingest; `state` keeps optimiser, coding errors and last model
    between rounds, and within one the steps so far every `checkpoint_s` seconds. `privacy` keeps ledger
    and roster of private training, over all runs: losing it ends private training with these patients.
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
    """Folder of the privacy ledger and of the record of what was sent."""
    budget: BudgetConfig = BudgetConfig()
    """The patients' privacy budget."""
    peers: PeersConfig | None = None
    """Terms of secure aggregation that the site insists on."""
    coordinator: CoordinatorConfig | None = None
    """The coordinator that the site connects to; null connects to none."""

    def run_folder(self, run: str) -> Path:
        """The folder of one run's state. The coordinator names runs, so they lie apart from the service's own files."""
        return self.state / "runs" / run

    def read_secret(self) -> bytes:
        """The site's key of pseudonyms (32 bytes).

        Raises:
            DataError: the file is missing or damaged. Only ingest makes a key, for a dataset that is new.
        """
        return read_secret(self.secret)


def load_site(path: Path) -> SiteFile:
    """Read a site file and make its paths absolute.

    Raises:
        ConfigError: the file is missing, cut short, or has an unknown key, wrong type or impossible value.
    """
    site = load(SiteFile, path)
    if not path.read_bytes().endswith(b"\n"):
        raise ConfigError(
            "is cut short: its last line has no end",
            where=str(path),
            fix="Compare it with a copy, and end it with a line break",
        )
    home = path.resolve().parent
    data = site.data.model_copy(
        update={
            "source": home / site.data.source,
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
