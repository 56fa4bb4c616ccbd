"""The site's policy rules, applied to an experiment before any data is read.

Every rule is a key of the site file's `policy`; a violation is refused with a code that the
coordinator receives.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, time
from math import prod

from client.errors import RefusedError
from client.identity.roster import read_roster
from client.policy.approval import Approvals
from client.policy.bounds import review_bounds
from client.policy.finding import Finding
from client.site.config import PeersConfig, SiteFile
from mama.config import Experiment
from mama.config.privacy import SecureConfig
from mama.exchange.codecs.block import Shape
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts, TrainingMetrics

# Bytes per trained parameter of an update, by codec; top-k sends an index with each value.
BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.1}
TOPK_BYTES = 8.0
# Largest ratio of the limit on variates, which are gradients, to the limit on updates.
VARIATES = 100


def check(site: SiteFile, experiment: Experiment, now: datetime) -> None:
    """Refuse an experiment that violates the site's policy.

    Args:
        site: the site file.
        experiment: the experiment.
        now: local time at the site.

    Raises:
        RefusedError: with the code of the first rule that is violated.
    """
    for finding in review(site, experiment, now):
        if not finding.passes:
            raise RefusedError(finding.code)


def check_upload(site: SiteFile, experiment: Experiment, parameters: int) -> None:
    """Refuse an experiment whose update exceeds `policy.max_upload_mb`.

    Args:
        site: the site file.
        experiment: the experiment.
        parameters: number of values in an update, SCAFFOLD's variates included.

    Raises:
        RefusedError: the update is too large.
    """
    limit = site.policy.max_upload_mb
    if limit is not None and upload_mb(experiment, parameters) > limit:
        raise RefusedError(ErrorCode.POLICY_UPLOAD)


def allowed_training(site: SiteFile, metrics: TrainingMetrics) -> TrainingMetrics:
    """Return the training metrics without the groups that may not leave the site."""
    return metrics if "loss" in site.policy.metrics else metrics.model_copy(update={"terms": {}})


def allowed_counts(site: SiteFile, counts: EvaluationCounts) -> EvaluationCounts:
    """Return the evaluation counts without the methods that may not leave the site."""
    kept = {name: found for name, found in counts.counts.items() if name in site.policy.metrics}
    return counts.model_copy(update={"counts": kept})


def values_of(shapes: Mapping[str, Shape]) -> int:
    """Return the total number of values of tensors of these shapes."""
    return sum(prod(shape) for shape in shapes.values())


def upload_mb(experiment: Experiment, parameters: int) -> float:
    """Return the approximate size of an update in megabytes."""
    exchange = experiment.exchange
    each = TOPK_BYTES * exchange.keep if exchange.up == "topk" else BYTES[exchange.up]
    return parameters * each / 1e6


def review(site: SiteFile, experiment: Experiment, now: datetime) -> Iterator[Finding]:
    """Yield the finding of each policy rule that is set."""
    policy, federation = site.policy, experiment.federation
    yield Finding(
        "max_local_steps",
        f"at most {policy.max_local_steps}",
        str(federation.local_steps),
        federation.local_steps <= policy.max_local_steps,
        ErrorCode.POLICY_STEPS,
    )
    yield from review_bounds(experiment, policy.allow)
    if experiment.strategy.fairness and "loss" not in policy.metrics:
        yield Finding(
            "metrics",
            ", ".join(policy.metrics) or "none",
            "loss, needed by strategy.fairness",
            False,
            ErrorCode.POLICY_BOUNDS,
        )
    if policy.base_models is not None:
        towers = (experiment.image.tower, experiment.text.tower)
        yield Finding(
            "base_models",
            ", ".join(policy.base_models) or "none",
            ", ".join(towers),
            set(towers) <= set(policy.base_models),
            ErrorCode.POLICY_MODEL,
        )
    if policy.min_cohort > 1:
        roster, cohort = read_roster(site), experiment.participation.quorum
        requested = f"quorum {cohort}"
        if roster is not None:
            requested += f", {len(roster.active)} on the roster"
            cohort = min(cohort, len(roster.active))
        yield Finding(
            "min_cohort",
            f"at least {policy.min_cohort}",
            requested,
            cohort >= policy.min_cohort,
            ErrorCode.POLICY_COHORT,
        )
    if policy.require_privacy:
        mode = experiment.privacy.mode
        yield Finding(
            "require_privacy",
            "privacy.mode patient",
            mode,
            mode == "patient",
            ErrorCode.POLICY_PRIVACY,
        )
    if policy.require_secure:
        secure = experiment.privacy.secure is not None
        yield Finding(
            "require_secure",
            "privacy.secure",
            "set" if secure else "not set",
            secure,
            ErrorCode.POLICY_SECURE,
        )
    if experiment.privacy.secure is not None:
        yield _peers(site, experiment.privacy.secure, scaffold=experiment.strategy.scaffold)
    if policy.hours is not None:
        yield Finding(
            "hours",
            policy.hours,
            now.strftime("%H:%M"),
            within(policy.hours, now.time()),
            ErrorCode.POLICY_HOURS,
        )
    if policy.max_upload_mb is not None:
        # Checked once the model is built: by `mama-site check --experiment`, and in every task.
        yield Finding(
            "max_upload_mb",
            f"at most {policy.max_upload_mb:g} MB",
            "known once the model is built",
            True,
            ErrorCode.POLICY_UPLOAD,
        )
    if policy.max_round_s is not None or policy.max_round_steps is not None:
        private = experiment.privacy.mode == "patient"
        yield Finding(
            "max_round_s, max_round_steps",
            "rounds may end early",
            "rounds of fixed length, as the number of steps would reveal patients"
            if private
            else "rounds may end early",
            not private,
            ErrorCode.POLICY_STEPS,
        )
    if Approvals(site).is_rejected(experiment.hash()):
        yield _rejection(experiment)
    elif policy.approval:
        yield _approval(site, experiment)


def _rejection(experiment: Experiment) -> Finding:
    """Return the finding of a rejected experiment, which overrides all other rules."""
    return Finding(
        "rejected",
        "only experiments that were not rejected here",
        f"rejected; approve it by `mama-site approve SITE.yaml {experiment.hash()}`",
        False,
        ErrorCode.REJECTED,
    )


def _approval(site: SiteFile, experiment: Experiment) -> Finding:
    """Check that the experiment was approved by a person or is covered by `auto_approve`."""
    rule, approved = site.policy.auto_approve, Approvals(site).has(experiment.hash())
    by_rule = rule is not None and rule.covers(experiment)
    requested = "approved by a person" if approved else "approved by auto_approve"
    if not approved and not by_rule:
        requested = f"not approved; approve it by `mama-site approve SITE.yaml {experiment.hash()}`"
    return Finding(
        "approval",
        "approved by a person" + (", or by auto_approve" if rule else ""),
        requested,
        approved or by_rule,
        ErrorCode.NOT_APPROVED,
    )


def _peers(site: SiteFile, secure: SecureConfig, *, scaffold: bool) -> Finding:
    """Check the site's terms of secure aggregation, as far as they are known before a round."""
    limits, roster = site.peers or PeersConfig(), read_roster(site)
    requested = f"threshold {secure.threshold}, {secure.bits} bits, limit {secure.limit:g}"
    passes = secure.bits >= limits.least_bits and secure.limit <= limits.largest_limit
    if scaffold:
        requested += f", variate_limit {secure.variate_limit:g}"
        passes &= secure.variate_limit <= VARIATES * limits.largest_limit
    if roster is not None:
        requested += f", {len(roster.active)} on the roster"
        passes &= limits.minimum_sites <= len(roster.active)
    return Finding(
        "peers",
        f"at least {limits.minimum_sites} sites and {limits.least_bits} bits, "
        f"limit at most {limits.largest_limit:g}",
        requested,
        passes,
        ErrorCode.SECURE_TERMS,
    )


def within(hours: str, moment: time) -> bool:
    """Return True if a time lies within hours such as 20:00-06:00, the end excluded."""
    begin, end = (time.fromisoformat(part) for part in hours.split("-"))
    if begin <= end:
        return begin <= moment < end
    return moment >= begin or moment < end


def explain(findings: list[Finding]) -> str:
    """Format the findings, one line per rule."""
    return "\n".join(
        f"{'allows ' if f.passes else 'REFUSES'}  {f.rule}: {f.allowed}; experiment: {f.requested}"
        + ("" if f.passes else f"  [{f.code}]")
        for f in findings
    )
