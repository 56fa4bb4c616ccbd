"""Privacy statement of a run, from the sites' ledgers and the coordinator's history of them."""

from collections.abc import Mapping
from typing import Any

from mama.config import Experiment
from mama.config.privacy import PrivacyConfig
from mama.errors import PrivacyError
from server.run.history import RunHistory
from server.run.site_history import SiteHistory


def spent(history: RunHistory, known: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each site's latest ledger; an older one never replaces a newer.

    Args:
        history: of the run, by its events, some of which may be lost.
        known: ledgers by site that are known without the events.
    """
    latest = dict(known)
    for event in history.paid:
        for site, metrics in event.sites.items():
            ledger = metrics.get("privacy")
            if ledger and ledger["steps"] >= latest.get(site, ledger)["steps"]:
                latest[site] = ledger
    return latest


def noised(history: RunHistory) -> int:
    """Count the noised means that may have been seen: a round that a crash repeated counts again.

    A round's event carries its own count, so that lines lost before it count too.
    """
    return max([len(history.paid), *(event.noised or 0 for event in history.paid)])


def statement(
    experiment: Experiment, history: RunHistory, sites: SiteHistory
) -> dict[str, Any] | None:
    """Return the privacy figures of metrics.json; None without privacy or secure aggregation.

    They are the target, each site's epsilon and the largest, and the rounds that secure aggregation
    hid or lost. If `sites` records more spending than the events, its record counts.
    """
    config = experiment.privacy
    found: dict[str, Any] = {"mode": config.mode}
    if config.secure is not None:
        rounds = history.rounds
        lost = sum(event.lost for event in rounds.values())
        found["secure"] = {
            "threshold": config.secure.threshold,
            "rounds": len(rounds),
            "lost": lost,
        }
    if config.mode == "none":
        return found if config.secure is not None else None
    found |= {"epsilon": config.epsilon, "delta": config.delta}
    if config.mode == "site":
        # Imported late: Opacus takes seconds to load.
        from server.aggregation.private_mean import site_epsilon

        done = max(sites.noised, noised(history))
        spent_by_all = site_epsilon(config, experiment.federation.rounds, done)
        return found | {"rounds": done, "sites": {}, "maximum": spent_by_all}
    of_sites = {
        site: {key: figure for key, figure in said.items() if key != "head"}
        for site, said in sorted(spent(history, sites.ledgers).items())
    }
    largest = max((figures["epsilon"] for figures in of_sites.values()), default=None)
    return found | {"sites": of_sites, "maximum": largest}


# Of a row a site: the epsilons and private steps of this run and of all in its ledger, zero-out,
# and the site's delta.
COLUMNS = ("site", "this run", "steps", "all runs", "steps", "delta", "one replaced")


def sentences(found: dict[str, Any] | None) -> list[str]:
    """Return the statement as sentences, without the sites' own figures (see `of_sites`)."""
    if found is None:
        return []
    lines = []
    if secure := found.get("secure"):
        lines.append(
            "secure aggregation: the coordinator saw the mean of "
            f"{secure['rounds'] - secure['lost']} of {secure['rounds']} rounds and no single "
            f"update, unless {secure['threshold']} sites helped it"
        )
    if found["mode"] == "none":
        return lines
    target = f"epsilon at most {found['epsilon']:g} planned at delta {found['delta']:g}"
    if found["mode"] == "site":
        return [
            f"privacy: site-level, {target}; {found['maximum']:.2f} after {found['rounds']} rounds "
            "(one site's updates zeroed, RDP), towards all but the coordinator"
        ]
    lines.append(f"privacy: patient-level, {target} (zero-out, RDP)")
    if found["maximum"] is not None:
        lines.append(
            f"largest of all runs: {found['maximum']:.2f}; a patient of several sites pays the "
            "sum of theirs"
        )
    return lines


def of_sites(found: dict[str, Any] | None) -> list[tuple[str, ...]]:
    """Return a row of COLUMNS for each site that reported its ledger."""
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
        for site, said in (found or {}).get("sites", {}).items()
    ]


def require_small_delta(privacy: PrivacyConfig, sites: int) -> None:
    """Refuse a delta of site-level privacy with which a whole site could be published.

    Raises:
        PrivacyError: it is not below 1 / sites.
    """
    if privacy.delta * sites >= 1:
        raise PrivacyError(
            f"delta {privacy.delta:g} is not below 1 / {sites} sites: it lets a whole site be "
            "published",
            where="privacy.delta",
            fix="Plan a smaller one, and give a new --out",
        )
