"""The signature that a site puts beside its answers, so that no other site can answer in its name."""

import logging

from client.enrolment import own_key
from client.sitefile import SiteFile
from mama.errors import ConfigError, ProtocolError
from mama.exchange.protocol import Task
from mama.exchange.signature import sign_answer

logger = logging.getLogger("fedmama.client")


def signature_of(site: SiteFile, task: object, answer: str, payload: bytes) -> str:
    """The signature of an answer, in hex: with the key of `coordinator`, in a simulation with that of `peers`.

    It is empty where nothing can be signed, and a coordinator who has a roster then refuses the answer: the site has no
    key, or the task cannot be read or comes without a nonce, from a coordinator of protocol 2.

    Args:
        task: the task's JSON, unchecked.
        answer: the answer's JSON as it will be sent.
    """
    keeper = site.coordinator or site.peers
    if keeper is None:
        return ""
    try:
        asked = Task.decode(task)
        return sign_answer(own_key(keeper.key), asked, answer, payload) if asked.nonce else ""
    except (ConfigError, ProtocolError) as error:
        logger.error("site %s: the answer goes unsigned: %s", site.site, error)
        return ""
