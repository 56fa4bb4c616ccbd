"""Checks of the connection to the coordinator: proxy, TLS, certificate, clock and enrolment."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLCertVerificationError

import httpx

from client.identity.enrolment import own_key, pinned_key
from client.identity.roster import read_roster
from client.identity.tls import context_for
from client.preflight.check import Check, fail, ok, warn
from client.service.flower.fleet import rejection_of
from client.service.flower.reporting_client import NOT_ADMITTED
from client.service.status import ServiceFolder, contact
from client.site.config import CoordinatorConfig, SiteFile
from mama.exchange.signing import public_line, read_public_line

# Flower rejects a node whose signed time is further ahead of or behind its own, in seconds.
MOST_AHEAD_S, MOST_BEHIND_S, SOME_SKEW_S = 5.0, 300.0, 2.0
EXPIRY_DAYS = 30
# Status of a reverse proxy that rejects the client certificate: 400, or nginx's 495 and 496.
CERTIFICATE_REJECTED = (400, 495, 496)

NO_CERTIFICATE = (
    "Set coordinator.client_certificate in the site file to the certificate that "
    "`mama-server enrol` made for this site"
)
# Remedies by a fragment of the error's text.
REMEDIES = {
    "certificate required": NO_CERTIFICATE,
    "certificate_required": NO_CERTIFICATE,
    "expired": "The coordinator must run `mama-server renew`; also check this machine's date",
    "not yet valid": "This machine's clock is behind; synchronise it by NTP",
    "mismatch": "The certificate is for another host name; use the coordinator's exact address",
    "certificate verify failed": "The server does not belong to ca.crt, or a proxy intercepts "
    "TLS: call the coordinator, or have the proxy pass this address through",
    "name or service not known": "DNS does not know the host; check coordinator.address",
    "temporary failure in name resolution": "DNS does not answer; check the network",
    "refused": "Nothing listens there; check address, firewall and the coordinator's service",
    "timed out": "Probably blocked by a firewall; request outbound HTTPS, or set HTTPS_PROXY",
    "proxy": "The proxy rejects the connection; ask for the address to be allowed",
}


def check_coordinator(site: SiteFile) -> Iterator[Check]:
    """Check every step of the connection from this machine to the coordinator.

    Raises:
        ConfigError: the site file has no coordinator, or its authority is not the pinned one.
    """
    folder = ServiceFolder(site)
    coordinator = folder.coordinator
    pinned_key(coordinator)
    yield ok("authority", "ca.crt matches coordinator.pin")
    yield _proxy()
    try:
        sent_at = time.time()
        with (
            httpx.Client(verify=context_for(coordinator), timeout=20) as client,
            client.stream("GET", f"https://{coordinator.address}/health") as response,
        ):
            stream = response.extensions["network_stream"]
            expires = stream.get_extra_info("ssl_object").getpeercert()["notAfter"]
    except httpx.HTTPError as error:
        text = _innermost(error)
        remedy = next((fix for sign, fix in REMEDIES.items() if sign in text.lower()), "")
        yield fail("connection", text, remedy or "Check coordinator.address and the network")
        return
    yield _connection(coordinator, response.status_code)
    yield _expiry(expires)
    yield _clock(response.headers.get("date"), sent_at)
    yield _enrolled(folder)


def _connection(coordinator: CoordinatorConfig, status: int) -> Check:
    """Check the HTTP status of a reverse proxy, which may require mutual TLS."""
    if status not in CERTIFICATE_REJECTED:
        return ok("connection", f"{coordinator.address} answers with a valid certificate")
    if coordinator.client_certificate is None:
        found = f"the coordinator requires a client certificate (HTTP {status})"
        return fail("connection", found, NO_CERTIFICATE)
    return fail(
        "connection",
        f"the coordinator rejects coordinator.client_certificate (HTTP {status})",
        "Check its dates, and ask the coordinator for the certificate issued for this site's key",
    )


def _proxy() -> Check:
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    # The proxy's user and password stay out of the output.
    return ok("proxy", f"via {proxy.rpartition('@')[2]}" if proxy else "none")


def _expiry(text: str) -> Check:
    ends = datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    days = (ends - datetime.now(UTC)).days
    if days < EXPIRY_DAYS:
        found = f"the coordinator's certificate expires in {days} days"
        return warn("expiry", found, "Remind the coordinator to run `mama-server renew`")
    return ok("expiry", f"the coordinator's certificate is valid for {days} more days")


def _clock(date: str | None, sent_at: float) -> Check:
    if date is None:
        found = "the coordinator sends no Date header"
        return warn("clock", found, "Check that this machine's clock is synchronised by NTP")
    skew = sent_at - parsedate_to_datetime(date).timestamp()
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's"
    if not -MOST_BEHIND_S < skew < MOST_AHEAD_S:
        return fail("clock", found, "Synchronise it by NTP; the coordinator rejects this site")
    if abs(skew) > SOME_SKEW_S:
        return warn("clock", found, "Synchronise it by NTP")
    return ok("clock", found)


def _enrolled(folder: ServiceFolder) -> Check:
    coordinator = folder.coordinator
    name = _name_on_roster(folder.site, coordinator)
    if name not in (None, folder.site.site):
        return fail(
            "enrolment",
            f"this key is enrolled as {name}",
            "Correct `site` or coordinator.key in the site file",
        )
    problem = contact(folder)
    if problem == "":
        return ok("enrolment", "the service is running and admitted")
    if problem is not None:
        # A second connection with this key would sign off the running node.
        found = f"the running service has no contact: {problem}"
        return fail("enrolment", found, "Fix that first")
    match rejection_of(coordinator):
        case None:
            return ok("enrolment", "the coordinator admits this site's key")
        case reason if reason == NOT_ADMITTED:
            return fail(
                "enrolment",
                reason,
                "Send node.pub to the coordinator for `mama-server enrol`. A revoked key stays "
                "rejected: create another by `mama-site new-key`",
            )
        case reason if reason.startswith("HTTP 4") and coordinator.client_certificate is None:
            return fail("enrolment", reason, NO_CERTIFICATE)
        case reason:
            return fail("enrolment", reason, "Retry later; this need not be the key's fault")


def _name_on_roster(site: SiteFile, coordinator: CoordinatorConfig) -> str | None:
    """Return the name of this site's key on the newest roster, None if the key is not on it."""
    own, roster = public_line(own_key(coordinator.key).public_key()), read_roster(site)
    members = roster.active if roster else ()
    keys = {public_line(read_public_line(member.public_key)): member.site for member in members}
    return keys.get(own)


def _innermost(error: BaseException) -> str:
    """Return the text of the root cause, or of the certificate error if there is one."""
    while not isinstance(error, SSLCertVerificationError) and (inner := error.__cause__):
        error = inner
    return str(error) or type(error).__name__
