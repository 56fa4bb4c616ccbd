"""The policy in force: a weaker site file needs a person's confirmation.

Without this, a truncated or half-saved site file would load with defaults instead of its rules.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.errors import RefusedError
from client.site.config import PeersConfig, SiteFile
from mama.errors import ConfigError, IntegrityError
from mama.exchange.codes import ErrorCode
from mama.system.sealed import read_if_whole, read_sealed, write_sealed

Rules = dict[str, Any]


def _not_lower(old: Any, new: Any) -> bool:
    return new >= old


def _not_higher(old: Any, new: Any) -> bool:
    return new <= old


def _no_looser_limit(old: Any, new: Any) -> bool:
    """Compare two limits, where None means no limit."""
    return old is None or (new is not None and new <= old)


def _no_more_entries(old: Any, new: Any) -> bool:
    """Compare two lists, where None allows everything."""
    return old is None or (new is not None and set(new) <= set(old))


def _no_new_exception(old: Any, new: Any) -> bool:
    return new is None or new == old


def _no_looser_licence(old: Any, new: Any) -> bool:
    """Compare two values of `data.licence.share_weights`, where None is the adapter's preset."""
    order = (False, None, True)
    return order.index(new) <= order.index(old)


def _kept_once_set(old: Any, new: Any) -> bool:
    return old is None or new == old


# Tests if a new value is at least as strict; any change of a rule not listed counts as weaker.
AT_LEAST_AS_STRICT: dict[str, Callable[[Any, Any], bool]] = {
    "policy.minimum_cell": _not_lower,
    "policy.label_odds": _no_looser_limit,
    "policy.max_evaluations": _not_higher,
    "policy.max_local_steps": _not_higher,
    "policy.max_round_s": _no_looser_limit,
    "policy.max_round_steps": _no_looser_limit,
    "policy.bundles": _no_more_entries,
    "policy.base_models": _no_more_entries,
    "policy.min_cohort": _not_lower,
    "policy.require_privacy": _not_lower,
    "policy.require_secure": _not_lower,
    "policy.share_licensed_weights": _not_higher,
    "policy.hours": _kept_once_set,
    "policy.max_upload_mb": _no_looser_limit,
    "policy.max_gpu_gib": _no_looser_limit,
    "policy.approval": _not_lower,
    "policy.auto_approve": _no_new_exception,
    "policy.metrics": _no_more_entries,
    "policy.min_patients_step": _not_lower,
    "policy.min_patients_update": _not_lower,
    "policy.allow": _no_more_entries,
    "policy.max_parameters": _not_higher,
    "policy.max_model_step": _no_looser_limit,
    "budget.epsilon": _not_higher,
    "budget.delta": _not_higher,
    "peers.minimum_sites": _not_lower,
    "peers.least_bits": _not_lower,
    "peers.largest_limit": _not_higher,
    "data.withdrawn": _kept_once_set,
    "data.licence.share_weights": _no_looser_licence,
}


def accept(site: SiteFile) -> None:
    """Put the site file's policy in force."""
    rules = _rules(site)
    if read_if_whole(_kept(site)) != rules:
        write_sealed(_kept(site), rules)


def put_in_force(site: SiteFile) -> None:
    """Put the site file's policy in force, if it is the first one or no rule became weaker.

    Raises:
        RefusedError: a rule is weaker, or the record of the policy in force is damaged.
    """
    problem = weaker(site)
    if problem:
        raise RefusedError(ErrorCode.POLICY_WEAKER, problem)
    accept(site)


def refuse_weaker(site: SiteFile) -> None:
    """Put the site file's policy in force like `put_in_force`, for the command line.

    Raises:
        ConfigError: a rule is weaker, or the record of the policy in force is damaged.
    """
    if problem := weaker(site):
        raise ConfigError(
            problem,
            where=f"site {site.site}",
            fix="Correct the site file, or run `mama-site policy SITE --accept`",
        )
    accept(site)


def weaker(site: SiteFile) -> str:
    """Return one line on the rules weaker than those in force; empty if there are none."""
    try:
        old = read_sealed(_kept(site))
    except IntegrityError:
        return "the record of the policy in force is damaged"
    if old is None:
        return ""
    new = _rules(site)
    found = [f"{key}: {old[key]} is now {new.get(key)}" for key in old if _loosened(key, old, new)]
    return f"the policy is weaker than the one in force: {'; '.join(found)}" if found else ""


def _loosened(key: str, old: Rules, new: Rules) -> bool:
    if key not in new:
        return True
    strict = AT_LEAST_AS_STRICT.get(key)
    return new[key] != old[key] and (strict is None or not strict(old[key], new[key]))


def _rules(site: SiteFile) -> Rules:
    """Return the rules by name; paths are relative to the state folder, as the site may move."""
    peers = (site.peers or PeersConfig()).model_dump(
        include={"minimum_sites", "least_bits", "largest_limit"}
    )
    withdrawn = site.data.withdrawn
    return {
        **{f"policy.{key}": rule for key, rule in site.policy.model_dump(mode="json").items()},
        **{f"budget.{key}": rule for key, rule in site.budget.model_dump().items()},
        **{f"peers.{key}": rule for key, rule in peers.items()},
        "data.withdrawn": withdrawn and os.path.relpath(withdrawn, site.state),
        "data.licence.share_weights": site.data.licence.share_weights,
        "privacy": os.path.relpath(site.privacy, site.state),
    }


def _kept(site: SiteFile) -> Path:
    return site.state / "service" / "policy.json"
