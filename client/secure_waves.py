"""The waves of secure aggregation as tasks: the update waits at the site until it is asked for under masks.

Of each round a site unmasks once. Two sums over one update, of different sites, would differ by what one site sent.
"""

import logging
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pydantic import ValidationError

from client.peers import read_peers
from client.secagg import Participant
from client.sitefile import SiteFile
from mama.checkpoint import load_tensors, save_tensors
from mama.config import Experiment
from mama.errors import ProtocolError, TrainingError
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Task
from mama.exchange.tensors import Arrays
from mama.files import write_text
from mama.secagg.messages import Advertisements, Consents, Packets, Roll, Terms
from mama.secagg.quantise import scale_of
from mama.section import Section

logger = logging.getLogger("fedmama.client")

_FOLDER = "secure"
_Message = TypeVar("_Message", bound=Section)


def keep_update(
    site: SiteFile, experiment: Experiment, task: Task, update: Arrays, metrics: TrainingMetrics
) -> None:
    """Put a round's update aside for the waves that follow, with what it counts.

    Raises:
        TrainingError: the update is not finite.
    """
    secure = experiment.privacy.secure
    assert secure is not None
    scaled = {name: np.asarray(array * scale_of(name, secure)) for name, array in update.items()}
    if not all(np.isfinite(array).all() for array in scaled.values()):
        raise TrainingError("the update is not finite", where=f"round {task.round}")
    cut = sum(int((abs(array) > secure.limit).sum()) for array in scaled.values())
    if cut:
        what = "site %s, round %d: %.2g %% of the update's values are cut to privacy.secure.limit"
        size = sum(array.size for array in scaled.values())
        logger.warning(what, site.site, task.round, 100 * cut / size)
    weight = metrics.weight(experiment.federation.weights)
    tensors = {name: torch.from_numpy(array) for name, array in scaled.items()}
    state = {"round": task.round, "weight": weight}
    save_tensors(site.run_folder(task.run) / _FOLDER / "update.safetensors", tensors, state)


def answer_wave(site: SiteFile, experiment: Experiment, task: Task, payload: bytes) -> bytes:
    """What this site says in a wave.

    Raises:
        ConfigError: the site has no key, or no roster of peers.
        ProtocolError: the wave is not what it should be; the site takes no further part in the round.
    """
    folder = site.run_folder(task.run) / _FOLDER
    party = Participant(folder / "waves", site.site, read_peers(site))
    spent = folder / "unmasked_round"
    if task.round <= (int(spent.read_text()) if spent.exists() else 0):
        raise ProtocolError("this round was unmasked already")
    match task.kind:
        case "advertise":
            terms = _read(Terms, payload)
            _check(terms, experiment, task)
            _, weight = _kept(folder, task)
            party.forget()
            return _bytes(party.advertise(weight, terms))
        case "share":
            return _bytes(party.share(_read(Advertisements, payload)))
        case "mask":
            update, _ = _kept(folder, task)
            return party.masked(_read(Packets, payload), update)
        case "agree":
            return _bytes(party.agree(_read(Roll, payload)))
        case _:
            shares = party.unmask(_read(Consents, payload))
            # Before the shares leave: whatever happens now, the round is over here.
            write_text(spent, str(task.round))
            party.forget()
            return _bytes(shares)


def _kept(folder: Path, task: Task) -> tuple[Arrays, float]:
    """The round's update and its weight."""
    tensors, state = load_tensors(folder / "update.safetensors")
    if not isinstance(state, dict) or state["round"] != task.round:
        raise ProtocolError("there is no update of this round")
    return {name: tensor.numpy() for name, tensor in tensors.items()}, state["weight"]


def _check(terms: Terms, experiment: Experiment, task: Task) -> None:
    agreed = experiment.privacy.secure
    if agreed is None or not terms.context.startswith(f"{task.run}/{task.round}/"):
        raise ProtocolError("the terms are of another round")
    if (terms.threshold, terms.bits, terms.limit) != (agreed.threshold, agreed.bits, agreed.limit):
        raise ProtocolError("the terms are not those of the experiment")


def _read(kind: type[_Message], payload: bytes) -> _Message:
    try:
        return kind.model_validate_json(payload)
    except ValidationError:
        raise ProtocolError("a wave's message does not follow the protocol") from None


def _bytes(message: Section) -> bytes:
    return message.model_dump_json().encode()
