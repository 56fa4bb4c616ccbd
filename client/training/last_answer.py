"""Cache of the last round's answer on the site's disk, which answers a repeated task."""

import json
from pathlib import Path

import torch
from pydantic import ValidationError

from client.errors import RefusedError
from mama.errors import ModelError
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from mama.system.tensors import load_tensors, save_tensors

# File in a run's folder; its existence shows that this site trained a round of the run.
LAST_ANSWER = "last_answer.safetensors"


def require_trained(run_folder: Path) -> None:
    """Refuse the final model of a run in which this site trained no round, to save disk space.

    Raises:
        RefusedError: the site trained no round.
    """
    if not (run_folder / LAST_ANSWER).exists():
        raise RefusedError(ErrorCode.POLICY_PLAN)


class LastAnswer:
    """One file with an answer, its update, and the checksum of its global model."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, task: Task, model: str) -> tuple[Answer, bytes] | None:
        """Return this round's answer and update for this model; None if missing or damaged.

        A round trained from one model has one update, whichever task requests it.
        """
        try:
            tensors, kept = load_tensors(self.path)
            state = kept if isinstance(kept, dict) else {}
            answer = Answer.model_validate_json(json.dumps(state["answer"]))
            known = (answer.run, answer.round, state["model"])
        except (ModelError, ValidationError, KeyError):
            return None  # missing, damaged, or of an older version: the task is done again
        if known != (task.run, task.round, model):
            return None
        return answer.model_copy(update={"task": task.task}), tensors["update"].numpy().tobytes()

    def write(self, answer: Answer, update: bytes, model: str) -> None:
        """Store an answer in place of the previous one."""
        block = torch.frombuffer(bytearray(update), dtype=torch.uint8)
        state = {"answer": answer.model_dump(mode="json"), "model": model}
        save_tensors(self.path, {"update": block}, state)
