"""A simulation's file: an experiment, and where its hospitals come from."""

from typing import Literal

from pydantic import Field, model_validator

from client.sitefile import PeersConfig
from mama.config import Experiment, Section

Engine = Literal["inprocess", "flower", "deployment"]
# docs/results.md has the measurement behind this choice.
DEFAULT_ENGINE: Engine = "inprocess"


class SyntheticHospitals(Section):
    """Hospitals made from phantoms. `train_studies` and `test_studies` are numbers a site.

    `density_alpha`: the shares of densities A to D among a site's training studies are drawn from a Dirichlet
    distribution, the same for all sites where it is large, one density a site where it is far below 1; null are the
    hospitals' own. Without `vendor_shift` all have the first one's equipment.
    """

    source: Literal["synthetic"]
    """Phantoms."""
    train_studies: int = Field(100, ge=1, le=100_000)
    """Training studies a site."""
    test_studies: int = Field(70, ge=1, le=100_000)
    """Test studies a site."""
    sites: int = Field(3, ge=1, le=100)
    """Number of hospitals."""
    density_alpha: float | None = Field(None, ge=0.01, le=1e6)
    """Dirichlet parameter of densities a site; null the hospitals' own."""
    vendor_shift: bool = True
    """Hospitals have equipment of their own."""


class SharedDataset(Section):
    """One dataset (given with --data) whose patients are dealt out to `sites` hospitals."""

    source: Literal["mias"]
    """Mini-MIAS, given with --data."""
    sites: int = Field(3, ge=1, le=100)
    """Number of hospitals."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of patients kept for evaluation."""


class SimulatedExperiment(Experiment):
    """The coordinator's experiment with a `simulation` section, which no site ever sees."""

    simulation: SyntheticHospitals | SharedDataset = Field(discriminator="source")

    @model_validator(mode="after")
    def _averages(self) -> "SimulatedExperiment":
        if self.heads.norm == "batch" and not self.federation.local:
            raise ValueError(
                "heads.norm batch keeps running statistics, which sites cannot average; set it to layer, keep "
                "them at the sites with federation.local, or train on one dataset with `mama train`"
            )
        return self

    @model_validator(mode="after")
    def _masks_can_come_off(self) -> "SimulatedExperiment":
        secure, sites = self.privacy.secure, self.simulation.sites
        if secure and not sites / 2 < secure.threshold <= sites:
            raise ValueError(
                f"privacy.secure.threshold is {secure.threshold}: it must be above half of the {sites} sites "
                "(simulation.sites) and not above all"
            )
        least = PeersConfig().minimum_sites
        if secure and sites < least:
            raise ValueError(
                f"privacy.secure: sites hide in a sum of {least} at least; raise simulation.sites"
            )
        return self

    def experiment(self) -> Experiment:
        """The experiment alone."""
        return Experiment.model_validate(self.model_dump(exclude={"simulation"}))
