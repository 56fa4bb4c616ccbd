"""The least number of patients behind an update: with too few it is a statement about one of them."""

from collections.abc import Iterator

from client.finding import Finding
from client.refused import RefusedError
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.exchange.codes import ErrorCode


def review_patients(site: SiteFile, pairs: StudyPairs) -> Iterator[Finding]:
    """The numbers of distinct patients that a step and a whole round rest on.

    Nothing under patient-level differential privacy, which bounds by noise what one patient changes.
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
    """Refuse an experiment whose steps or rounds would rest on too few of this site's patients.

    Raises:
        RefusedError: by the first rule that it breaks.
    """
    for finding in review_patients(site, pairs):
        if not finding.passes:
            raise RefusedError(finding.code, f"{finding.rule}: {finding.asked} patients")


def require_patients_in(site: SiteFile, pairs: StudyPairs, steps: range) -> None:
    """Refuse to send the update of a round that ended early, after these steps.

    Raises:
        RefusedError: they saw too few patients.
    """
    found = pairs.patients_in(steps)
    if found < site.policy.min_patients_update:
        raise RefusedError(ErrorCode.POLICY_PATIENTS, f"the round saw {found} patients")


def sentences(site: SiteFile, experiment: Experiment) -> list[str]:
    """Summarise for the person who approves an experiment what of the patients leaves, a line each."""
    federation, private = experiment.federation, experiment.privacy.mode == "patient"
    steps = federation.local_steps
    most = steps * experiment.optimiser.batch_size * experiment.optimiser.accumulate
    figures = [name for name in site.policy.metrics if name != "loss" or not private]
    if private:
        what = f"noised sums over groups of {experiment.privacy.group_size} patients"
    else:
        what = f"at least {site.policy.min_patients_update} of at most {most} drawn"
    hidden = experiment.privacy.secure is not None
    every = federation.evaluate_every
    start = experiment.init_from
    return [
        *([f"starts from: the earlier model of fingerprint {start}"] if start else []),
        f"rounds: {federation.rounds}, one update each after {steps} steps",
        f"patients in one update: {what}",
        f"raw gradients leave: {'yes (scaffold)' if federation.scaffold else 'no'}",
        "seen by the coordinator: "
        + ("the sum of the sites' updates alone" if hidden else "this site's own update"),
        f"figures that leave: {', '.join(figures) or 'none'}"
        + (
            f"; evaluated every {every} rounds and at the end"
            if every
            else "; evaluated at the end"
        ),
        "differential privacy: "
        + (f"epsilon {experiment.privacy.epsilon:g} a patient" if private else "none for patients"),
    ]
