"""Tasks of the server and answers of the sites, as JSON headers beside named tensors.

Both sides validate what they receive as hostile input: sizes are bounded, unknown keys rejected,
the experiment's hash recomputed. Every header names protocol, run, round and task, so that a task
delivered twice is counted once.

The previous version is supported too, so that a federation can be upgraded machine by machine: a
site answers in the version of the task, and if a site rejects a task, the server re-sends it in the
version of the rejection.
"""

import hashlib
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError

from mama.config import Experiment, Section
from mama.config.base import SiteName
from mama.errors import ProtocolError, VersionError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import DataStatistics, EvaluationCounts, TrainingMetrics

PROTOCOL = 3
SPOKEN = (PROTOCOL - 1, PROTOCOL)
# Header fields by the version that introduced them; messages of the previous version omit them.
SINCE = {"nonce": 3, "share_weights": 3}
# Fields that releases of the same version may lack; messages omit them where they are None.
OPTIONAL = {"share_weights", "statistics"}
MAX_HEADER = 4 * 2**20
# Characters of a signed roster; enough for 3000 keys.
MAX_ROSTER = 2**20

# Waves of secure aggregation (mama.exchange.secagg.messages), in order.
Wave = Literal["advertise", "share", "mask", "agree", "unmask"]
WAVES: tuple[Wave, ...] = get_args(Wave)
Kind = Literal["describe", "statistics", "rehearse", "train", "evaluate", "finish", Wave]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Version(BaseModel):
    protocol: int = PROTOCOL


class Header(Section):
    """Fields of every message."""

    protocol: int = PROTOCOL
    run: Identifier
    round: int = Field(ge=0, le=10**6)
    task: Identifier

    def encode(self) -> str:
        """Return the header as JSON of its own version."""
        newer = {name for name, since in SINCE.items() if since > self.protocol}
        unset = {name for name in OPTIONAL if getattr(self, name, None) is None}
        return self.model_dump_json(exclude=newer | unset)

    @classmethod
    def decode(cls, text: object) -> Self:
        """Validate a header from the other side.

        Raises:
            ProtocolError: too large, not JSON, or not of this schema. The text is not repeated.
            VersionError: of an unsupported version, whatever else it contains.
        """
        if not isinstance(text, str) or len(text) > MAX_HEADER:
            raise ProtocolError("header is missing or too large")
        try:
            if _Version.model_validate_json(text).protocol not in SPOKEN:
                raise VersionError("header has an unsupported protocol version")
            return cls.model_validate_json(text)
        except ValidationError as error:
            # Deeper parts of the location may be keys chosen by the other side.
            place = [p for p in error.errors()[0]["loc"][:1] if p in cls.model_fields]
            raise ProtocolError(
                "header does not follow the protocol", where="".join(map(str, place))
            ) from None


class Task(Header):
    """Task from the server to a site.

    `describe` requests a description of the site's model, `statistics` the statistics of its data
    that its policy releases (none is a valid answer), `train` one round of training, and
    `evaluate` an evaluation of the attached model. `finish` stores the attached model as the run's
    final one. `rehearse` exchanges random tensors of an update's size. `advertise`, `share`,
    `mask`, `agree` and `unmask` are the waves of secure aggregation
    (`mama.exchange.secagg.messages`).

    Attributes:
        probes: also evaluate linear probes.
        ledger: head of the site's privacy ledger as last seen by the server.
        roster: the federation's signed roster (`mama.exchange.roster`); None in simulations
            without one.
        deadline_s: seconds from the arrival of the task until its answer is due; None is no limit.
        nonce: random and unique per task, and part of what the site signs
            (`mama.exchange.signature`): task names recur when a run is resumed, and earlier answers
            must not be accepted.
    """

    kind: Kind
    experiment: Annotated[str, Field(max_length=2**20)]
    experiment_hash: Sha256
    probes: bool = False
    ledger: Sha256 | None = None
    roster: Annotated[str, Field(max_length=MAX_ROSTER)] | None = None
    deadline_s: Annotated[float, Field(gt=0, le=30 * 86400)] | None = None
    nonce: Nonce | None = None

    def read_experiment(self) -> Experiment:
        """Return the experiment after checking its hash and every value.

        Raises:
            ProtocolError: the hash differs, or a value is impossible.
        """
        if hashlib.sha256(self.experiment.encode()).hexdigest() != self.experiment_hash:
            raise ProtocolError("the experiment does not have the hash it claims")
        try:
            return Experiment.model_validate_json(self.experiment)
        except ValidationError:
            raise ProtocolError("the experiment is not valid") from None


class Description(Section):
    """Description of a site's model before a run; the fingerprint is of the frozen base weights."""

    fingerprint: Sha256
    trained_parameters: int = Field(ge=0)
    frozen_parameters: int = Field(ge=0)


class Rehearsal(Section):
    """Result of a rehearsed round: the site's own time from task to answer, and peak memory."""

    seconds: float = Field(ge=0, le=1e9)
    peak_mib: int = Field(ge=0, le=2**40)


class Answer(Header):
    """Answer of a site; `status` is ok or an error code, and at most one payload is set.

    `holds` is the checksum of the global model that the site keeps, on which a delta may be based;
    `final` is that of the run's final model, once stored. `share_weights`, with a description, is
    False if the licence of the site's data lets no weights trained on it be shared.
    """

    site: SiteName
    status: Literal["ok"] | ErrorCode
    description: Description | None = None
    training: TrainingMetrics | None = None
    evaluation: EvaluationCounts | None = None
    statistics: DataStatistics | None = None
    rehearsal: Rehearsal | None = None
    final: Sha256 | None = None
    holds: Sha256 | None = None
    share_weights: bool | None = None
