"""Findings on a private experiment, for people: privacy budget and patient slots.

In a run the slots are checked when the site joins, the budget before each step.
"""

from collections.abc import Iterator

from client.policy.finding import Finding
from client.privacy.round import roster_to_be, site_ledger
from client.site.config import SiteFile
from client.site.dataset import dataset_of
from mama.config import Experiment
from mama.errors import NoStudiesError
from mama.exchange.codes import ErrorCode
from mama.privacy.accounting import rdp_epsilon
from mama.privacy.plan import planned_noise
from mama.system.formats import percent

# With a larger share of silent groups a run would spend the patients' budget on noise.
MOST_SILENT = 0.95


def require_patients(site: SiteFile, experiment: Experiment) -> None:
    """Refuse a private experiment with far more slots than the site has patients.

    Raises:
        NoStudiesError: nearly all groups would contain an empty slot.
    """
    finding = _slots(site, experiment)
    if not finding.passes:
        raise NoStudiesError(
            f"private training would spend the budget on noise: {finding.requested}",
            where=str(site.data.dataset),
            fix="Agree on fewer privacy.slots or a smaller privacy.group_size",
        )


def review_private(site: SiteFile, experiment: Experiment) -> Iterator[Finding]:
    """Yield findings on budget and slots; none without patient-level privacy."""
    if experiment.privacy.mode == "patient":
        yield _budget(site, experiment)
        yield _slots(site, experiment)


def _budget(site: SiteFile, experiment: Experiment) -> Finding:
    """Check that the patients' budget covers all planned steps; else the site would drop out."""
    ledger, delta = site_ledger(site), site.budget.delta
    steps = experiment.total_steps
    planned = (planned_noise(experiment), experiment.privacy.sample_rate, steps)
    after = rdp_epsilon([*ledger.charges, planned], delta)
    return Finding(
        "budget",
        f"epsilon {site.budget.epsilon:g} at delta {delta:g}, {ledger.epsilon():.3f} already spent",
        f"{after:.3f} after all {steps} steps of the run",
        after <= site.budget.epsilon,
        ErrorCode.BUDGET,
    )


def _slots(site: SiteFile, experiment: Experiment) -> Finding:
    """Check the share of silent groups (those with an empty slot) if the run began now."""
    config = experiment.privacy
    roster = roster_to_be(site, dataset_of(site).studies("train"), config.slots)
    filled = sum(patient is not None for patient in roster.slots)
    silent = roster.lost_share(config.group_size)
    return Finding(
        "privacy.slots",
        f"at most {percent(MOST_SILENT)} of the groups silent",
        f"{filled} of {config.slots} slots filled, "
        f"{percent(silent)} of the groups of {config.group_size} silent",
        silent <= MOST_SILENT,
        ErrorCode.NO_STUDIES,
    )
