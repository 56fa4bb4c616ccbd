"""The last round's answer on the site's disk: a task that comes again is answered by it and not done again."""

import json
from pathlib import Path

import torch
from pydantic import ValidationError

from mama.checkpoint import load_tensors, save_tensors
from mama.errors import ModelError
from mama.exchange.protocol import Answer, Task

# In a run's folder; its being there says that this site trained a round of the run.
LAST_ANSWER = "last_answer.safetensors"


class LastAnswer:
    """One file: an answer, its update, and the checksum of the global model it was made from."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, task: Task, model: str) -> tuple[Answer, bytes] | None:
        """The answer to this round on this model, and its update; None where it is another's or damaged.

        A round trained from one model has one update, under whatever task's name it is asked for.
        """
        try:
            tensors, kept = load_tensors(self.path)
            state = kept if isinstance(kept, dict) else {}
            answer = Answer.model_validate_json(json.dumps(state["answer"]))
            known = (answer.run, answer.round, state["model"])
        except (ModelError, ValidationError, KeyError):
            return None  # none yet, damaged, or an older version's: it is done again
        if known != (task.run, task.round, model):
            return None
        return answer.model_copy(update={"task": task.task}), tensors["update"].numpy().tobytes()

    def write(self, answer: Answer, update: bytes, model: str) -> None:
        """Keep an answer in the place of the one before."""
        block = torch.frombuffer(bytearray(update), dtype=torch.uint8)
        state = {"answer": answer.model_dump(mode="json"), "model": model}
        save_tensors(self.path, {"update": block}, state)
