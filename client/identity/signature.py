"""Signatures of a site's answers, so that no other site can answer in its name."""

import logging

from client.identity.enrolment import own_key
from client.site.config import SiteFile
from mama.errors import ConfigError, ProtocolError
from mama.exchange.protocol import Task
from mama.exchange.signature import sign_answer

logger = logging.getLogger("fedmama.client")


def signature_of(site: SiteFile, task: object, answer: str, payload: bytes) -> str:
    """Return an answer's signature in hex, or an empty string if it cannot be signed.

    The key is that of `coordinator`, or in a simulation that of `peers`. An answer cannot be signed
    if the site has no key, or if the task cannot be read or has no nonce (protocol 2); a
    coordinator with a roster then refuses the answer.

    Args:
        site: the site's settings.
        task: the task's JSON, unchecked.
        answer: the answer's JSON as it will be sent.
        payload: the tensors that are sent with the answer.
    """
    keeper = site.coordinator or site.peers
    if keeper is None:
        return ""
    try:
        known = Task.decode(task)
        return sign_answer(own_key(keeper.key), known, answer, payload) if known.nonce else ""
    except (ConfigError, ProtocolError) as error:
        logger.error("site %s: the answer is sent unsigned: %s", site.site, error)
        return ""
