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


DealtLabel = Literal["density", "suspicious", "cancer"]
# The names of mama.data.adapters.ADAPTERS, which takes seconds to import.
Layout = Literal[
    "dicom_folder", "mias", "cbis_ddsm", "cdd_cesm", "csaw_cc", "dmid", "embed", "image_table",
    "inbreast", "rsna", "vindr",
]  # fmt: skip


class DealConfig(Section):
    """Rule by which patients are dealt to hospitals; no patient is at two of them.

    `patient` deals evenly at random, `vendor` gives each maker's patients to one hospital, and
    `dirichlet` draws each class's shares of the hospitals from a Dirichlet distribution: a large
    `alpha` makes all alike, one far below 1 gives most of a class to one hospital.
    """

    by: Literal["patient", "vendor", "dirichlet"] = "patient"
    """Rule: patient (evenly at random), vendor or dirichlet."""
    label: DealtLabel | None = None
    """Label whose classes are dealt by dirichlet; of a breast, the patient's worse one counts."""
    alpha: float | None = Field(None, ge=0.01, le=1e6)
    """Parameter of dirichlet."""

    @model_validator(mode="after")
    def _one_rule(self) -> "DealConfig":
        given = [name for name in ("label", "alpha") if getattr(self, name) is not None]
        if self.by == "dirichlet" and len(given) < 2:
            raise ValueError("by dirichlet needs label and alpha: {label: density, alpha: 0.5}")
        if self.by != "dirichlet" and given:
            raise ValueError(f"{given[0]} is only for by: dirichlet")
        return self


class DealtDataset(Section):
    """One dataset, given with --data, whose patients are dealt to `sites` hospitals.

    It is an ingested dataset, whatever `source` says, or a raw folder with the layout of `source`.
    """

    source: Layout
    """Adapter of a raw folder given with --data; without effect on an ingested dataset."""
    sites: int = Field(3, ge=1, le=100)
    """Number of hospitals."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Fraction of a raw folder's patients held out for evaluation; an ingested dataset has its own
    split."""
    deal: DealConfig = DealConfig()
    """Rule by which patients are dealt to the hospitals."""


class SimulatedExperiment(Experiment):
    """Experiment with a `simulation` section, which is never sent to sites."""

    simulation: SyntheticHospitals | DealtDataset = Field(discriminator="source")

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
