"""A simulation's file: an experiment, and where its hospitals come from."""

from typing import Literal

from pydantic import Field

from mama.config import Experiment, Section

Engine = Literal["inprocess", "flower", "deployment"]
# docs/results.md has the measurement behind this choice.
DEFAULT_ENGINE: Engine = "inprocess"


class SyntheticHospitals(Section):
    """Hospitals made from phantoms. `train_studies` and `test_studies` are numbers a site."""

    source: Literal["synthetic"]
    train_studies: int = Field(100, ge=1, le=100_000)
    test_studies: int = Field(70, ge=1, le=100_000)


class SharedDataset(Section):
    """One dataset (given with --data) whose patients are dealt out to `sites` hospitals."""

    source: Literal["mias"]
    sites: int = Field(3, ge=1, le=100)
    test_fraction: float = Field(0.2, gt=0, lt=1)


class SimulatedExperiment(Experiment):
    """The coordinator's experiment with a `simulation` section, which no site ever sees."""

    simulation: SyntheticHospitals | SharedDataset = Field(discriminator="source")

    def experiment(self) -> Experiment:
        """The experiment alone."""
        return Experiment.model_validate(self.model_dump(exclude={"simulation"}))
