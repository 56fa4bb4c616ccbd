"""The privacy statement of a run: what the sites' ledgers say, and what the coordinator remembers of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from mama.config import Experiment
from mama.config_privacy import PrivacyConfig
from mama.errors import PrivacyError
from server.folder import Event
from server.memory import Memory
from server.standing import rounds_of


def spent(
    events: Iterable[Event], known: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The last word of each site's ledger, by site; an older one never replaces a newer.

    Args:
        known: what is known without the events, some of which may be lost.
    """
    latest = dict(known)
    for event in events:
        if event["event"] != "round":
            continue
        for site, metrics in event["sites"].items():
            said = metrics.get("privacy")
            if said and said["steps"] >= latest.get(site, said)["steps"]:
                latest[site] = said
    return latest


def noised(events: Iterable[Event]) -> int:
    """Count the noised means that may have been seen: a round that a crash repeated counts again.

    A round's event has the number that it was itself, so that lines that are lost before it count.
    """
    rounds = [event for event in events if event["event"] == "round"]
    return max([len(rounds), *(event.get("noised", 0) for event in rounds)])


def statement(
    experiment: Experiment, events: Iterable[Event], memory: Memory
) -> dict[str, Any] | None:
    """The figures of metrics.json: target, each site's epsilon, and the largest; what secure aggregation hid.

    None for a run with neither. What `memory` knows to be spent counts where the events say less.
    """
    config, events = experiment.privacy, list(events)
    told: dict[str, Any] = {"mode": config.mode}
    if config.secure is not None:
        rounds = rounds_of(events)
        lost = sum(event.get("lost", False) for event in rounds.values())
        told["secure"] = {
            "threshold": config.secure.threshold,
            "rounds": len(rounds),
            "lost": lost,
        }
    if config.mode == "none":
        return told if config.secure is not None else None
    told |= {"epsilon": config.epsilon, "delta": config.delta}
    if config.mode == "site":
        # Imported late: Opacus takes seconds to load.
        from server.site_privacy import site_epsilon

        done = max(memory.noised, noised(events))
        spent_by_all = site_epsilon(config, experiment.federation.rounds, done)
        return told | {"rounds": done, "sites": {}, "maximum": spent_by_all}
    sites = {
        site: {key: figure for key, figure in said.items() if key != "head"}
        for site, said in sorted(spent(events, memory.ledgers).items())
    }
    largest = max((figures["epsilon"] for figures in sites.values()), default=None)
    return told | {"sites": sites, "maximum": largest}


# Of a row a site: the epsilons and private steps of this run and of all in its ledger, zero-out, and the site's delta.
COLUMNS = ("site", "this run", "steps", "all runs", "steps", "delta", "one replaced")


def sentences(told: dict[str, Any] | None) -> list[str]:
    """The statement for people, but for the sites' own figures (`of_sites`)."""
    if told is None:
        return []
    lines = []
    if secure := told.get("secure"):
        lines.append(
            f"secure aggregation: the coordinator saw the mean of {secure['rounds'] - secure['lost']} of "
            f"{secure['rounds']} rounds and no single update, unless {secure['threshold']} sites helped it"
        )
    if told["mode"] == "none":
        return lines
    target = f"epsilon at most {told['epsilon']:g} planned at delta {told['delta']:g}"
    if told["mode"] == "site":
        return [
            f"privacy: site-level, {target}; {told['maximum']:.2f} after {told['rounds']} rounds "
            "(one site's updates zeroed, RDP), towards all but the coordinator"
        ]
    lines.append(f"privacy: patient-level, {target} (zero-out, RDP)")
    if told["maximum"] is not None:
        lines.append(
            f"largest of all runs: {told['maximum']:.2f}; a patient of several sites pays the sum of theirs"
        )
    return lines


def of_sites(told: dict[str, Any] | None) -> list[tuple[str, ...]]:
    """A row of COLUMNS for each site that said what its ledger holds."""
    return [
        (
            site,
            f"{said['run_epsilon']:.2f}",
            f"{said['run_steps']}",
            f"{said['epsilon']:.2f}",
            f"{said['steps']}",
            f"{said['delta']:g}",
            "no bound" if said["replace_one"] is None else f"{said['replace_one']:.2f}",
        )
        for site, said in (told or {}).get("sites", {}).items()
    ]


def require_small_delta(privacy: PrivacyConfig, sites: int) -> None:
    """Refuse a delta of site-level privacy with which a whole site could be published.

    Raises:
        PrivacyError: it is not below 1 / sites.
    """
    if privacy.delta * sites >= 1:
        raise PrivacyError(
            f"delta {privacy.delta:g} is not below 1 / {sites} sites: it lets a whole site be published",
            where="privacy.delta",
            fix="Plan a smaller one, and give a new --out",
        )
