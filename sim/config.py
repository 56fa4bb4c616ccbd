"""Configuration of a simulation: an experiment and the source of its hospitals."""

from typing import Literal

from pydantic import Field, model_validator

from client.site.config import PeersConfig
from mama.config import Experiment, Section

Engine = Literal["inprocess", "flower", "deployment"]
# See docs/results.md for the measurement behind this choice.
DEFAULT_ENGINE: Engine = "inprocess"


class SyntheticHospitals(Section):
    """Hospitals with phantom data, `train_studies` and `test_studies` each.

    `density_alpha`: each site's shares of densities A to D among training studies are drawn from a
    Dirichlet distribution; large values make all sites alike, values far below 1 give one density
    per site, null uses the hospitals' own shares. Without `vendor_shift` all sites have the first
    one's equipment.
    """

    source: Literal["synthetic"]
    """Source of the data: phantoms."""
    train_studies: int = Field(100, ge=1, le=100_000)
    """Training studies per site."""
    test_studies: int = Field(70, ge=1, le=100_000)
    """Test studies per site."""
    sites: int = Field(3, ge=1, le=100)
    """Number of hospitals."""
    density_alpha: float | None = Field(None, ge=0.01, le=1e6)
    """Dirichlet parameter of each site's densities; null uses the hospitals' own shares."""
    vendor_shift: bool = True
    """Give hospitals different equipment."""


class SharedDataset(Section):
    """One dataset (given with --data) whose patients are split among `sites` hospitals."""

    source: Literal["mias"]
    """Source of the data: mini-MIAS, given with --data."""
    sites: int = Field(3, ge=1, le=100)
    """Number of hospitals."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Fraction of patients held out for evaluation."""


class SimulatedExperiment(Experiment):
    """Experiment with a `simulation` section, which is never sent to sites."""

    simulation: SyntheticHospitals | SharedDataset = Field(discriminator="source")

    @model_validator(mode="after")
    def _averages(self) -> "SimulatedExperiment":
        if self.heads.norm == "batch" and not self.strategy.local:
            raise ValueError(
                "heads.norm batch has running statistics, which cannot be averaged over sites; "
                "set it to layer, keep them at the sites with strategy.local, or train on one "
                "dataset with `mama train`"
            )
        return self

    @model_validator(mode="after")
    def _masks_can_come_off(self) -> "SimulatedExperiment":
        secure, sites = self.privacy.secure, self.simulation.sites
        if secure and not sites / 2 < secure.threshold <= sites:
            raise ValueError(
                f"privacy.secure.threshold is {secure.threshold}: it must be more than half of "
                f"the {sites} sites (simulation.sites) and at most all of them"
            )
        least = PeersConfig().minimum_sites
        if secure and sites < least:
            raise ValueError(
                f"privacy.secure: sites require a sum of at least {least}; raise simulation.sites"
            )
        return self

    def experiment(self) -> Experiment:
        """Return the experiment without the simulation."""
        return Experiment.model_validate(self.model_dump(exclude={"simulation"}))
