"""The privacy statement of a run: what the sites' ledgers say, and what the coordinator remembers of them."""

from collections.abc import Iterable
from typing import Any

from mama.config_privacy import PrivacyConfig
from server.folder import Event


def spent(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """What each site's ledger said last, by site; an older word never replaces a newer one."""
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event"] != "round":
            continue
        for site, metrics in event["sites"].items():
            said = metrics.get("privacy")
            if said and said["steps"] >= latest.get(site, said)["steps"]:
                latest[site] = said
    return latest


def statement(config: PrivacyConfig, events: Iterable[Event]) -> dict[str, Any] | None:
    """The figures of metrics.json: target, each site's epsilon, and the largest; None for a run that is not private."""
    if config.mode == "none":
        return None
    sites = {
        site: {key: said[key] for key in ("epsilon", "replace_one", "delta", "steps")}
        for site, said in sorted(spent(events).items())
    }
    return {
        "mode": config.mode,
        "epsilon": config.epsilon,
        "delta": config.delta,
        "sites": sites,
        "maximum": max((figures["epsilon"] for figures in sites.values()), default=None),
    }


def sentences(told: dict[str, Any] | None) -> list[str]:
    """The statement for people, a line each."""
    if told is None:
        return []
    lines = [
        f"privacy: patient-level, epsilon at most {told['epsilon']:g} planned at delta {told['delta']:g}"
    ]
    for site, figures in told["sites"].items():
        replaced = figures["replace_one"]
        other = "unbounded" if replaced is None else f"{replaced:.2f}"
        lines.append(
            f"  {site}: epsilon {figures['epsilon']:.2f} at delta {figures['delta']:g} after {figures['steps']} "
            f"private steps of all runs (zero-out, RDP); {other} for one patient replaced by another"
        )
    if told["maximum"] is not None:
        lines.append(
            f"  largest: {told['maximum']:.2f}; a patient of several sites pays the sum of theirs"
        )
    return lines
