"""Waves of secure aggregation as tasks; the update stays at the site until the masking wave.

A site unmasks once per round (client.secagg.unmasked), and an update is summed only with others of
the same basis: the experiment and model that it was actually trained from, not those that a wave
names. Each run draws its own batches, so that no other run, even with the same experiment and
model, repeats an update.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from client.identity.peers import read_peers
from client.secagg.participant import Participant
from client.secagg.unmasked import UnmaskedSums
from client.site.config import SiteFile
from mama.config import Experiment
from mama.config.base import Section
from mama.errors import ModelError, ProtocolError, TrainingError
from mama.exchange.arrays import Arrays
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Task
from mama.exchange.secagg.messages import (
    Advertisements,
    Basis,
    Consents,
    Packets,
    Roll,
    Terms,
    read_message,
)
from mama.exchange.secagg.quantise import scale_of
from mama.system.tensors import load_tensors, save_tensors

logger = logging.getLogger("fedmama.client")

_FOLDER = "secure"


def basis_of(task: Task, model: str) -> Basis:
    """Return the basis of a training task's update.

    Args:
        task: the training task.
        model: checksum of the received global model.
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
    """Store a round's update with its basis and weight for the waves that follow.

    Waves of an earlier update are discarded.

    Args:
        site: the site's settings.
        experiment: the run's experiment.
        task: the training task.
        model: checksum of the global model that the update was trained from.
        update: the update.
        metrics: the training's metrics, which determine the weight.

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
    weight = metrics.weight(experiment.strategy.weights)
    tensors = {name: torch.from_numpy(array) for name, array in scaled.items()}
    folder = site.run_folder(task.run) / _FOLDER
    Participant(folder / "waves", site.site, read_peers(site)).forget()
    state = {"basis": basis_of(task, model).model_dump(mode="json"), "weight": weight}
    save_tensors(folder / "update.safetensors", tensors, state)


def answer_wave(site: SiteFile, experiment: Experiment, task: Task, payload: bytes) -> bytes:
    """Return this site's message of a wave.

    Raises:
        ConfigError: the site has no key, or no roster of peers.
        ProtocolError: the wave's message is invalid; the site leaves the round.
        RefusedError: the site refuses the terms or a peer's training, or the sum was unmasked
            before.
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
            # Before the shares are sent, so that the round is over even after a crash.
            sums.remember(basis)
            party.forget()
            return _bytes(shares)


def _kept(folder: Path, task: Task) -> tuple[Arrays, float, Basis]:
    """Return the round's update, its weight, and its basis."""
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
        raise ProtocolError("the terms differ from the experiment's")


def _bytes(message: Section) -> bytes:
    return message.model_dump_json().encode()
