"""The site file: what a hospital decides for itself. It never leaves the hospital."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from mama.config import Section
from mama.configfile import load
from mama.data.secret import read_secret
from mama.exchange.protocol import SiteName


class DataConfig(Section):
    """`source` is the hospital's folder, `dataset` where ingest keeps manifest and image cache."""

    source: Path
    adapter: str = "dicom_folder"
    dataset: Path
    test_fraction: float = Field(0.2, gt=0, lt=1)
    workers: int = Field(2, ge=1, le=256)


class PolicyConfig(Section):
    """`minimum_cell`: counts of studies or breasts below it do not leave the site; the numbers of training
    studies and their patients, an update's weight, do. `max_round_s`: seconds of training a round after which the site
    sends what it has; null sets no limit."""

    minimum_cell: int = Field(5, ge=1, le=1000)
    max_local_steps: int = Field(10_000, ge=1)
    max_round_s: float | None = Field(None, gt=0, le=30 * 86400)


class BudgetConfig(Section):
    """The most that private runs together may tell of one training patient, zero-out (docs/privacy.md).

    `required` refuses whatever is not private: without it the bound holds for the private runs alone.
    """

    epsilon: float = Field(8.0, gt=0, le=1000)
    delta: float = Field(1e-5, gt=0, le=0.1)
    required: bool = False


class SiteFile(Section):
    """One hospital's settings. Relative paths count from the file's folder.

    `models` maps names of base models in experiments to local folders or files; `secret` is a file with the key
    of the pseudonyms, made on first use; `state` keeps optimiser, coding errors and last model
    between rounds, and within one the steps so far every `checkpoint_s` seconds. `privacy` keeps ledger
    and roster of private training, over all runs: losing it ends private training with these patients.
    """

    site: SiteName
    data: DataConfig
    state: Path
    secret: Path
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    checkpoint_s: float = Field(300.0, ge=0, le=86400)
    models: dict[str, Path] = {}
    policy: PolicyConfig = PolicyConfig()
    privacy: Path = Path("privacy")
    budget: BudgetConfig = BudgetConfig()

    def read_secret(self) -> bytes:
        """The site's key (32 bytes), made with mode 0600 when there is none yet."""
        return read_secret(self.secret)


def load_site(path: Path) -> SiteFile:
    """Read a site file and make its paths absolute.

    Raises:
        ConfigError: the file is missing or has an unknown key, wrong type or impossible value.
    """
    site = load(SiteFile, path)
    home = path.resolve().parent
    data = site.data.model_copy(
        update={"source": home / site.data.source, "dataset": home / site.data.dataset}
    )
    return site.model_copy(
        update={
            "data": data,
            "state": home / site.state,
            "privacy": home / site.privacy,
            "secret": home / site.secret,
            "models": {name: home / place for name, place in site.models.items()},
        }
    )
