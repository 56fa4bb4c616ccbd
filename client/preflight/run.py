"""All checks of a site, in an order in which each can rely on those before it."""

from collections.abc import Iterator

from client.preflight.check import Check, guarded
from client.preflight.coordinator import check_coordinator
from client.preflight.data import check_data
from client.preflight.experiment import check_experiment
from client.preflight.machine import check_machine
from client.sitefile import SiteFile
from mama.config import Experiment


def preflight(
    site: SiteFile, experiment: Experiment | None, fingerprint: str = ""
) -> Iterator[Check]:
    """Machine, data, coordinator and, if one is given, an experiment."""
    yield from guarded("machine", check_machine(site))
    yield from guarded("dataset", check_data(site))
    yield from guarded("coordinator", check_coordinator(site))
    if experiment is not None:
        yield from guarded("experiment", check_experiment(site, experiment, fingerprint))
