"""Minimum numbers of patients per step and update, so that no update describes one patient."""

from collections.abc import Iterator

from client.errors import RefusedError
from client.policy.finding import Finding
from client.site.config import SiteFile
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.exchange.codes import ErrorCode


def review_patients(site: SiteFile, pairs: StudyPairs) -> Iterator[Finding]:
    """Yield findings on the number of distinct patients in a step and in a whole round.

    None under patient-level differential privacy, where noise bounds each patient's influence.
    """
    experiment = pairs.experiment
    if experiment.privacy.mode == "patient":
        return
    policy, steps = site.policy, experiment.federation.local_steps
    for rule, least, found in (
        ("min_patients_step", policy.min_patients_step, pairs.batch_size),
        ("min_patients_update", policy.min_patients_update, pairs.patients_in(range(steps))),
    ):
        yield Finding(
            rule, f"at least {least}", f"{found}", found >= least, ErrorCode.POLICY_PATIENTS
        )


def require_patients_of(site: SiteFile, pairs: StudyPairs) -> None:
    """Refuse an experiment whose steps or rounds would cover too few of this site's patients.

    Raises:
        RefusedError: with the code of the first rule that is violated.
    """
    for finding in review_patients(site, pairs):
        if not finding.passes:
            raise RefusedError(finding.code, f"{finding.rule}: only {finding.requested} patients")


def require_patients_in(site: SiteFile, pairs: StudyPairs, steps: range) -> None:
    """Refuse to send the update of these steps, of a round that may have ended early.

    Raises:
        RefusedError: the steps covered too few patients.
    """
    found = pairs.patients_in(steps)
    if found < site.policy.min_patients_update:
        raise RefusedError(ErrorCode.POLICY_PATIENTS, f"the round covered only {found} patients")


def sentences(site: SiteFile, experiment: Experiment) -> list[str]:
    """Summarise what an experiment would send, one line each, for the person who approves it."""
    federation, private = experiment.federation, experiment.privacy.mode == "patient"
    steps = federation.local_steps
    most = steps * experiment.optimiser.batch_size * experiment.optimiser.accumulate
    figures = [name for name in site.policy.metrics if name != "loss" or not private]
    if private:
        patients = f"noisy sums over groups of {experiment.privacy.group_size} patients"
    else:
        patients = f"at least {site.policy.min_patients_update}, at most {most}"
    hidden = experiment.privacy.secure is not None
    every = federation.evaluate_every
    start = experiment.init_from
    return [
        *([f"starts from: the earlier model with fingerprint {start}"] if start else []),
        f"rounds: {federation.rounds}, with one update of {steps} steps each",
        f"patients per update: {patients}",
        f"raw gradients: {'yes (scaffold)' if experiment.strategy.scaffold else 'no'}",
        "visible to the coordinator: "
        + ("only the sum of the sites' updates" if hidden else "this site's own update"),
        f"figures: {', '.join(figures) or 'none'}"
        + (
            f"; evaluated every {every} rounds and at the end"
            if every
            else "; evaluated at the end"
        ),
        "differential privacy: "
        + (
            f"epsilon {experiment.privacy.epsilon:g} per patient"
            if private
            else "none for patients"
        ),
    ]
