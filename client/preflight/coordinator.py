"""The way to the coordinator: name, proxy, connection, certificate, clock, and whether the key is enrolled."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLCertVerificationError

import httpx

from client.enrolment import own_key, pinned_key
from client.flower import NOT_ADMITTED, may_come_in
from client.preflight.check import Check, fail, ok, warn
from client.roster import read_roster
from client.service import ServiceFolder, contact
from client.sitefile import CoordinatorConfig, SiteFile
from client.tls import context_for
from mama.signing import public_line, read_public_line

# Flower refuses a node whose signed time is so far ahead of or behind its own, in seconds.
MOST_AHEAD_S, MOST_BEHIND_S, SOME_SKEW_S = 5.0, 300.0, 2.0
EXPIRY_DAYS = 30
# What doors answer to a missing or foreign client certificate: 400 by nginx, or its own codes 495 and 496.
NO_ENTRY = (400, 495, 496)

NO_CERTIFICATE = (
    "Set coordinator.client_certificate in the site file to the certificate that "
    "`mama-server enrol` made for this site"
)
# What an error's text says, and what to do then.
REMEDIES = {
    "certificate required": NO_CERTIFICATE,
    "certificate_required": NO_CERTIFICATE,
    "expired": "The coordinator must run `mama-server renew`; check this machine's date too",
    "not yet valid": "This machine's clock is behind; set it by NTP",
    "mismatch": "The certificate is for another name; use the address that the coordinator gave",
    "certificate verify failed": "It is not the coordinator that ca.crt belongs to; call them, "
    "or a proxy here opens TLS and must let this address through",
    "name or service not known": "DNS does not know the host; check coordinator.address",
    "temporary failure in name resolution": "DNS does not answer; check the network",
    "refused": "Nobody listens there; check address, firewall and the coordinator's service",
    "timed out": "A firewall drops it; ask for outbound HTTPS to the address, or set HTTPS_PROXY",
    "proxy": "The proxy refuses it; ask for the address to be allowed",
}


def check_coordinator(site: SiteFile) -> Iterator[Check]:
    """Everything on the way from this machine to the coordinator.

    Raises:
        ConfigError: the site file has no coordinator, or its authority is not the pinned one.
    """
    folder = ServiceFolder(site)
    coordinator = folder.coordinator
    pinned_key(coordinator)
    yield ok("authority", "ca.crt is the pinned one")
    yield _proxy()
    try:
        asked = time.time()
        with (
            httpx.Client(verify=context_for(coordinator), timeout=20) as client,
            client.stream("GET", f"https://{coordinator.address}/health") as response,
        ):
            stream = response.extensions["network_stream"]
            expires = stream.get_extra_info("ssl_object").getpeercert()["notAfter"]
    except httpx.HTTPError as error:
        text = _innermost(error)
        remedy = next((fix for sign, fix in REMEDIES.items() if sign in text.lower()), "")
        yield fail("connection", text, remedy or "Check address and network")
        return
    yield _door(coordinator, response.status_code)
    yield _expiry(expires)
    yield _clock(response.headers.get("date"), asked)
    yield _enrolled(folder)


def _door(coordinator: CoordinatorConfig, status: int) -> Check:
    """A reverse proxy with mutual TLS answers 400 (nginx) to a site without a certificate that it takes."""
    if status not in NO_ENTRY:
        return ok("connection", f"{coordinator.address} answers, its certificate is good")
    if coordinator.client_certificate is None:
        found = f"the door asks for a certificate of this site (HTTP {status})"
        return fail("connection", found, NO_CERTIFICATE)
    return fail(
        "connection",
        f"the door does not take coordinator.client_certificate (HTTP {status})",
        "Ask the coordinator for the site's certificate that belongs to its key, and compare dates",
    )


def _proxy() -> Check:
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    # Its user and password stay out of the output.
    return ok("proxy", f"by {proxy.rpartition('@')[2]}" if proxy else "none, directly")


def _expiry(text: str) -> Check:
    ends = datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    days = (ends - datetime.now(UTC)).days
    if days < EXPIRY_DAYS:
        return warn("expiry", f"the certificate ends in {days} days", "Remind the coordinator")
    return ok("expiry", f"the certificate is good for {days} days")


def _clock(date: str | None, asked: float) -> Check:
    if date is None:
        return warn("clock", "the coordinator does not tell its time", "Check this clock by NTP")
    skew = asked - parsedate_to_datetime(date).timestamp()
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's"
    if not -MOST_BEHIND_S < skew < MOST_AHEAD_S:
        return fail("clock", found, "Set the clock by NTP; the coordinator refuses this site")
    if abs(skew) > SOME_SKEW_S:
        return warn("clock", found, "Set the clock by NTP")
    return ok("clock", found)


def _enrolled(folder: ServiceFolder) -> Check:
    coordinator = folder.coordinator
    name = _name_on_roster(folder.site, coordinator)
    if name not in (None, folder.site.site):
        return fail(
            "enrolment", f"the roster knows this key as {name}", "Correct `site`, or the key"
        )
    away = contact(folder)
    if away == "":
        return ok("enrolment", "the service is running and admitted")
    if away is not None:
        # Asking beside a node that runs would sign it off.
        return fail("enrolment", f"the running service is not admitted: {away}", "Mend that first")
    match may_come_in(coordinator):
        case None:
            return ok("enrolment", "the coordinator knows this site's key")
        case reason if reason == NOT_ADMITTED:
            return fail(
                "enrolment",
                reason,
                "Send it node.pub; it enrols it by `mama-server enrol`. A revoked key is refused for good: "
                "make another by `mama-site new-key`",
            )
        case reason if reason.startswith("HTTP 4") and coordinator.client_certificate is None:
            return fail("enrolment", reason, NO_CERTIFICATE)
        case reason:
            return fail("enrolment", reason, "Try again later; the key may be good")


def _name_on_roster(site: SiteFile, coordinator: CoordinatorConfig) -> str | None:
    """By which name the newest roster here has this site's key; None where it does not have it."""
    own, roster = public_line(own_key(coordinator.key).public_key()), read_roster(site)
    members = roster.active if roster else ()
    keys = {public_line(read_public_line(member.public_key)): member.site for member in members}
    return keys.get(own)


def _innermost(error: BaseException) -> str:
    """The text of the error that caused it all."""
    while not isinstance(error, SSLCertVerificationError) and (inner := error.__cause__):
        error = inner
    return str(error) or type(error).__name__
