"""The waves of secure aggregation as tasks: the update waits at the site until it is asked for under masks.

Of each round a site unmasks once (client.unmasked), and an update is summed only with others of the same basis: the
experiment and model that it was trained from, not those that a wave names. Each run's batches are drawn anew, so that
no other run, of whatever experiment and model, repeats an update.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from client.peers import read_peers
from client.secagg import Participant
from client.sitefile import SiteFile
from client.unmasked import UnmaskedSums
from mama.checkpoint import load_tensors, save_tensors
from mama.config import Experiment
from mama.errors import ModelError, ProtocolError, TrainingError
from mama.exchange.arrays import Arrays
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Task
from mama.secagg.messages import Advertisements, Basis, Consents, Packets, Roll, Terms, read_message
from mama.secagg.quantise import scale_of
from mama.section import Section

logger = logging.getLogger("fedmama.client")

_FOLDER = "secure"


def basis_of(task: Task, model: str) -> Basis:
    """What a training task's update comes from.

    Args:
        model: the checksum of the received global model.
    """
    return Basis(experiment=task.experiment_hash, model=model, run=task.run, round=task.round)


def keep_update(
    site: SiteFile,
    experiment: Experiment,
    task: Task,
    model: str,
    update: Arrays,
    metrics: TrainingMetrics,
) -> None:
    """Put a round's update aside for the waves that follow, with what it came from and counts.

    Waves that began with an earlier update end here.

    Args:
        model: the checksum of the global model that it was trained from.

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
    folder = site.run_folder(task.run) / _FOLDER
    Participant(folder / "waves", site.site, read_peers(site)).forget()
    state = {"basis": basis_of(task, model).model_dump(mode="json"), "weight": weight}
    save_tensors(folder / "update.safetensors", tensors, state)


def answer_wave(site: SiteFile, experiment: Experiment, task: Task, payload: bytes) -> bytes:
    """What this site says in a wave.

    Raises:
        ConfigError: the site has no key, or no roster of peers.
        ProtocolError: the wave is not what it should be; the site takes no further part in the round.
        RefusedError: the terms, a peer's training, or a sum that was unmasked before.
        PrivacyError: the record of unmasked sums is damaged.
    """
    folder = site.run_folder(task.run) / _FOLDER
    party, sums = Participant(folder / "waves", site.site, read_peers(site)), UnmaskedSums(site)
    update, weight, basis = _kept(folder, task)
    sums.require_open(basis)
    match task.kind:
        case "advertise":
            terms = read_message(Terms, payload)
            _check(terms, experiment, task)
            party.forget()
            return _bytes(party.advertise(weight, terms, basis))
        case "share":
            return _bytes(party.share(read_message(Advertisements, payload)))
        case "mask":
            return party.masked(read_message(Packets, payload), update)
        case "agree":
            return _bytes(party.agree(read_message(Roll, payload)))
        case _:
            shares = party.unmask(read_message(Consents, payload))
            # Before the shares leave: whatever happens now, the round is over here.
            sums.remember(basis)
            party.forget()
            return _bytes(shares)


def _kept(folder: Path, task: Task) -> tuple[Arrays, float, Basis]:
    """The round's update, its weight, and what it came from."""
    try:
        tensors, state = load_tensors(folder / "update.safetensors")
        kept = state if isinstance(state, dict) else {}
        weight, basis = float(kept["weight"]), Basis.model_validate(kept["basis"])
    except (ModelError, ValidationError, KeyError, TypeError, ValueError):
        raise ProtocolError("there is no whole update of this round") from None
    if (basis.run, basis.round) != (task.run, task.round):
        raise ProtocolError("there is no update of this round")
    if basis.experiment != task.experiment_hash:
        raise ProtocolError("the wave names another experiment than the one that was trained")
    return {name: tensor.numpy() for name, tensor in tensors.items()}, weight, basis


def _check(terms: Terms, experiment: Experiment, task: Task) -> None:
    agreed = experiment.privacy.secure
    if agreed is None or not terms.context.startswith(f"{task.run}/{task.round}/"):
        raise ProtocolError("the terms are of another round")
    if (terms.threshold, terms.bits, terms.limit) != (agreed.threshold, agreed.bits, agreed.limit):
        raise ProtocolError("the terms are not those of the experiment")


def _bytes(message: Section) -> bytes:
    return message.model_dump_json().encode()
