"""What a private experiment would mean to this site's patients, before a step is taken."""

from collections.abc import Iterator

from client.consent import dataset_of
from client.finding import Finding
from client.private import roster_to_be, site_ledger
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.errors import NoStudiesError
from mama.exchange.codes import ErrorCode
from mama.privacy.accounting import rdp_epsilon
from mama.privacy.plan import planned_noise

# A run of which more is silent would spend the patients' budget on noise.
MOST_SILENT = 0.95


def require_patients(site: SiteFile, experiment: Experiment) -> None:
    """Refuse a private experiment whose slots the site's patients do not fill by far.

    Raises:
        NoStudiesError: nearly all groups would hold an empty slot.
    """
    finding = _slots(site, experiment)
    if not finding.passes:
        raise NoStudiesError(
            f"private training would spend the budget on noise: {finding.asked}",
            where=str(site.data.dataset),
            fix="Agree on fewer privacy.slots or a smaller privacy.group_size",
        )


def review_private(site: SiteFile, experiment: Experiment) -> Iterator[Finding]:
    """Budget and slots; nothing of an experiment that is not private at patient level."""
    if experiment.privacy.mode == "patient":
        yield _budget(site, experiment)
        yield _slots(site, experiment)


def _budget(site: SiteFile, experiment: Experiment) -> Finding:
    """Whether the patients' budget allows all planned steps; if not, the site leaves the run on the way."""
    ledger, delta = site_ledger(site), site.budget.delta
    steps = experiment.total_steps
    planned = (planned_noise(experiment), experiment.privacy.sample_rate, steps)
    after = rdp_epsilon([*ledger.charges, planned], delta)
    return Finding(
        "budget",
        f"epsilon {site.budget.epsilon:g} at delta {delta:g}, {ledger.epsilon():.3f} of it spent",
        f"{after:.3f} after all {steps} steps of the run",
        after <= site.budget.epsilon,
        ErrorCode.BUDGET,
    )


def _slots(site: SiteFile, experiment: Experiment) -> Finding:
    """How many groups would be silent, were the run to begin now."""
    config = experiment.privacy
    roster = roster_to_be(site, dataset_of(site).studies("train"), config.slots)
    filled = sum(patient is not None for patient in roster.slots)
    silent = roster.lost_share(config.group_size)
    return Finding(
        "privacy.slots",
        f"at most {MOST_SILENT:.0%} of the groups silent",
        f"{filled} of {config.slots} slots filled, {silent:.0%} of the groups of {config.group_size} hold an empty one",
        silent <= MOST_SILENT,
        ErrorCode.NO_STUDIES,
    )
