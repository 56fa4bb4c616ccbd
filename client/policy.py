"""The site decides: what an experiment may ask for, by the site file, before any data is touched.

Every rule is a line of the site file's `policy`; what goes beyond it is refused with a code that the coordinator sees.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, time
from math import prod

from client.approval import Approvals
from client.bounds import review_bounds
from client.finding import Finding
from client.refused import RefusedError
from client.roster import read_roster
from client.sitefile import PeersConfig, SiteFile
from mama.config import Experiment
from mama.config_privacy import SecureConfig
from mama.exchange.block import Shape
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts, TrainingMetrics

# Bytes of a trained parameter in an update, by coding; top-k sends an index with each value.
BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.1}
TOPK_BYTES = 8.0
# How many times as large as an update's limit that of the variates, which are gradients, may be.
VARIATES = 100


def check(site: SiteFile, experiment: Experiment, now: datetime) -> None:
    """Refuse what goes beyond the site's policy.

    Args:
        now: the time at the site, local.

    Raises:
        RefusedError: by the first rule that it breaks.
    """
    for finding in review(site, experiment, now):
        if not finding.passes:
            raise RefusedError(finding.code)


def check_upload(site: SiteFile, experiment: Experiment, parameters: int) -> None:
    """Refuse an experiment whose update is larger than the site lets out in a round.

    Args:
        parameters: how many values travel in an update, SCAFFOLD's variates among them.

    Raises:
        RefusedError: it is.
    """
    limit = site.policy.max_upload_mb
    if limit is not None and upload_mb(experiment, parameters) > limit:
        raise RefusedError(ErrorCode.POLICY_UPLOAD)


def allowed_training(site: SiteFile, metrics: TrainingMetrics) -> TrainingMetrics:
    """The figures of a round of training that leave the site."""
    return metrics if "loss" in site.policy.metrics else metrics.model_copy(update={"terms": {}})


def allowed_counts(site: SiteFile, counts: EvaluationCounts) -> EvaluationCounts:
    """The figures of an evaluation that leave the site."""
    kept = {name: found for name, found in counts.counts.items() if name in site.policy.metrics}
    return counts.model_copy(update={"counts": kept})


def values_of(shapes: Mapping[str, Shape]) -> int:
    """How many values tensors of these shapes have."""
    return sum(prod(shape) for shape in shapes.values())


def upload_mb(experiment: Experiment, parameters: int) -> float:
    """About the size of an update in megabytes."""
    exchange = experiment.federation.exchange
    each = TOPK_BYTES * exchange.keep if exchange.up == "topk" else BYTES[exchange.up]
    return parameters * each / 1e6


def review(site: SiteFile, experiment: Experiment, now: datetime) -> Iterator[Finding]:
    """What each rule says of an experiment."""
    policy, federation = site.policy, experiment.federation
    yield Finding(
        "max_local_steps",
        f"at most {policy.max_local_steps}",
        str(federation.local_steps),
        federation.local_steps <= policy.max_local_steps,
        ErrorCode.POLICY_STEPS,
    )
    yield from review_bounds(experiment, policy.allow)
    if experiment.federation.fairness and "loss" not in policy.metrics:
        yield Finding(
            "metrics",
            ", ".join(policy.metrics) or "none",
            "loss, by which federation.fairness weighs",
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
        roster, asked, cohort = read_roster(site), f"quorum {federation.quorum}", federation.quorum
        if roster is not None:
            asked += f", {len(roster.active)} on the roster"
            cohort = min(cohort, len(roster.active))
        yield Finding(
            "min_cohort",
            f"at least {policy.min_cohort}",
            asked,
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
        yield _peers(site, experiment.privacy.secure, scaffold=federation.scaffold)
    if policy.hours is not None:
        yield Finding(
            "hours",
            policy.hours,
            now.strftime("%H:%M"),
            within(policy.hours, now.time()),
            ErrorCode.POLICY_HOURS,
        )
    if policy.max_upload_mb is not None:
        # Counted when the model is built: by `mama-site check --experiment`, and at each task before any data.
        yield Finding(
            "max_upload_mb",
            f"at most {policy.max_upload_mb:g} MB",
            "known when the model is built",
            True,
            ErrorCode.POLICY_UPLOAD,
        )
    if policy.max_round_s is not None or policy.max_round_steps is not None:
        private = experiment.privacy.mode == "patient"
        yield Finding(
            "max_round_s, max_round_steps",
            "a round may end early",
            "all steps, for their number would tell of patients" if private else "may",
            not private,
            ErrorCode.POLICY_STEPS,
        )
    if policy.approval:
        yield _approval(site, experiment)


def _approval(site: SiteFile, experiment: Experiment) -> Finding:
    """Whether a person, or a rule that a person made, has approved the experiment."""
    rule, approved = site.policy.auto_approve, Approvals(site).has(experiment.hash())
    by_rule = rule is not None and rule.covers(experiment)
    asked = "approved by a person" if approved else "approved by rule"
    if not approved and not by_rule:
        asked = f"`mama-site approve SITE.yaml {experiment.hash()}`"
    return Finding(
        "approval",
        "approved by a person" + (", or by auto_approve" if rule else ""),
        asked,
        approved or by_rule,
        ErrorCode.NOT_APPROVED,
    )


def _peers(site: SiteFile, secure: SecureConfig, *, scaffold: bool) -> Finding:
    """What the site insists on under secure aggregation, as far as it is known before a round."""
    limits, roster = site.peers or PeersConfig(), read_roster(site)
    asked = f"threshold {secure.threshold}, {secure.bits} bits, limit {secure.limit:g}"
    passes = secure.bits >= limits.least_bits and secure.limit <= limits.largest_limit
    if scaffold:
        asked += f", variate_limit {secure.variate_limit:g}"
        passes &= secure.variate_limit <= VARIATES * limits.largest_limit
    if roster is not None:
        asked += f", {len(roster.active)} on the roster"
        passes &= limits.minimum_sites <= len(roster.active)
    return Finding(
        "peers",
        f"{limits.minimum_sites} sites and {limits.least_bits} bits at least, limit at most {limits.largest_limit:g}",
        asked,
        passes,
        ErrorCode.SECURE_TERMS,
    )


def within(hours: str, moment: time) -> bool:
    """Whether a moment lies in hours such as 20:00-06:00, the end excluded."""
    begin, end = (time.fromisoformat(part) for part in hours.split("-"))
    if begin <= end:
        return begin <= moment < end
    return moment >= begin or moment < end


def explain(findings: list[Finding]) -> str:
    """A line a rule."""
    return "\n".join(
        f"{'allows ' if f.passes else 'REFUSES'}  {f.rule}: {f.allowed}; asked: {f.asked}"
        + ("" if f.passes else f"  [{f.code}]")
        for f in findings
    )
