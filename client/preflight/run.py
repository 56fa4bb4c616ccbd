"""All checks of a site, ordered so that each can rely on the ones before it."""

from collections.abc import Iterator

from client.preflight.check import Check, guarded
from client.preflight.coordinator import check_coordinator
from client.preflight.data import check_data
from client.preflight.experiment import check_experiment
from client.preflight.machine import check_machine
from client.site.config import SiteFile
from mama.config import Experiment


def preflight(
    site: SiteFile, experiment: Experiment | None, fingerprint: str = ""
) -> Iterator[Check]:
    """Check machine, data and coordinator and, if one is given, an experiment.

    Args:
        site: the site file.
        experiment: the experiment to check, or None.
        fingerprint: fingerprint of the coordinator's base models, or a prefix; empty if unknown.
    """
    yield from guarded("machine", check_machine(site))
    yield from guarded("dataset", check_data(site))
    yield from guarded("coordinator", check_coordinator(site))
    if experiment is not None:
        yield from guarded("experiment", check_experiment(site, experiment, fingerprint))
