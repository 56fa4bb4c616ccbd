"""Start of a run: wait for sites to connect."""

import time

from server.round.sites import Sites
from server.run.context import RunContext
from server.run.events import SitesKnown, Waiting

# Seconds to wait for all expected sites to connect.
GATHERING_S = 60.0


def gather(sites: Sites, run: RunContext) -> None:
    """Wait for nodes and learn which sites they are.

    With a quorum, a federation does not wait for a site that is still at other work: it joins when
    it has answered. Without a roster all sites are on this machine, and the result of a simulation
    must not depend on how busy that is.
    """
    connections, end = sites.connections, time.monotonic() + GATHERING_S
    sites.poll(now=True)
    while connections.nodes < run.expected and time.monotonic() < end:
        time.sleep(0.2)
        sites.poll(now=True)
    while connections.undecided:
        if run.roster is not None and time.monotonic() > end and _is_quorum(sites, run):
            break
        sites.poll()
        if connections.undecided:
            time.sleep(0.1)
    run.emit(SitesKnown(sites=sorted(sites.connected)))
    sites.gathered()


def await_quorum(sites: Sites, run: RunContext) -> bool:
    """Wait up to `deadline_s` for a quorum of connected sites; return whether it was reached.

    The wait ends early once every expected node has connected and been admitted or refused.
    """
    end = time.monotonic() + run.experiment.participation.deadline_s
    while not _is_quorum(sites, run) and time.monotonic() < end:
        sites.poll()
        if _all_decided(sites, run):
            break
        time.sleep(0.2)
    return _is_quorum(sites, run)


def await_return(sites: Sites, run: RunContext) -> bool:
    """Wait without limit for a quorum of a resumed run; return whether it was reached.

    It ends without a quorum only when all expected nodes are connected and were refused.
    """
    announced: list[str] | None = None
    retried = time.monotonic()
    while not _is_quorum(sites, run):
        sites.poll()
        missing = sorted(run.known - set(sites.connected))
        if missing != announced and not _is_quorum(sites, run):
            here = sorted(sites.connected)
            run.emit(Waiting(round=run.number, missing=missing, here=here))
            announced = missing
        if _all_decided(sites, run):
            break
        if time.monotonic() - retried > GATHERING_S:
            retried = time.monotonic()
            sites.connections.retry_refused()
        time.sleep(0.5)
    return _is_quorum(sites, run)


def _is_quorum(sites: Sites, run: RunContext) -> bool:
    return len(sites.connected) >= run.experiment.participation.quorum


def _all_decided(sites: Sites, run: RunContext) -> bool:
    return sites.connections.nodes >= run.expected and not sites.connections.undecided
