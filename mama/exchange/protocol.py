"""The messages: what a server asks and a site answers, as JSON headers beside named tensors.

Both sides validate what they read as hostile: sizes are bounded, unknown keys refused, the experiment's hash
recomputed. Every header names protocol, run, round and task, so that a task delivered twice is counted once.

The version before is spoken too, so that a federation can be updated machine by machine: a site answers in the
version it is asked in, and a server asks a site that refuses a task in the version of its refusal.
"""

import hashlib
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError

from mama.config import Experiment, Section
from mama.errors import ProtocolError, VersionError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts, TrainingMetrics
from mama.section import SiteName

PROTOCOL = 3
SPOKEN = (PROTOCOL - 1, PROTOCOL)
# Fields of headers by the version that brought them; a message of the one before goes without.
SINCE = {"nonce": 3}
MAX_HEADER = 4 * 2**20
# Characters of a signed roster, enough for 3000 keys.
MAX_ROSTER = 2**20

# The waves of secure aggregation (mama.secagg.messages), in their order.
Wave = Literal["advertise", "share", "mask", "agree", "unmask"]
WAVES: tuple[Wave, ...] = get_args(Wave)
Kind = Literal["describe", "rehearse", "train", "evaluate", "finish", Wave]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Version(BaseModel):
    protocol: int = PROTOCOL


class Header(Section):
    """What every message carries."""

    protocol: int = PROTOCOL
    run: Identifier
    round: int = Field(ge=0, le=10**6)
    task: Identifier

    def encode(self) -> str:
        """As JSON of the header's own version."""
        newer = {name for name, since in SINCE.items() if since > self.protocol}
        return self.model_dump_json(exclude=newer)

    @classmethod
    def decode(cls, text: object) -> Self:
        """Check a header from the other side.

        Raises:
            ProtocolError: too large, not JSON, or not of this schema. The text itself is not repeated.
            VersionError: of a version that is not spoken here, whatever else is in it.
        """
        if not isinstance(text, str) or len(text) > MAX_HEADER:
            raise ProtocolError("header is missing or too large")
        try:
            if _Version.model_validate_json(text).protocol not in SPOKEN:
                raise VersionError("header is of a protocol version that is not spoken here")
            return cls.model_validate_json(text)
        except ValidationError as error:
            # Deeper parts of the location can be keys that the other side chose.
            place = [p for p in error.errors()[0]["loc"][:1] if p in cls.model_fields]
            raise ProtocolError(
                "header does not follow the protocol", where="".join(map(str, place))
            ) from None


class Task(Header):
    """What the server asks: `describe` yourself, `train` one round, or `evaluate` the model sent along.

    `finish` keeps the model sent along as the run's last. `rehearse` sends random tensors, and random ones of an
    update's size come back.

    `advertise`, `share`, `mask`, `agree` and `unmask` are the waves of secure aggregation (`mama.secagg.messages`).

    `ledger` is the head of the site's privacy ledger as the server last saw it.

    `roster` is the federation's signed roster (`mama.exchange.roster`), None in a simulation without one.

    `deadline_s` are the seconds from the task's arrival until its answer should be back; None sets no limit.

    `nonce` is random and new with each task, and part of what the site signs (`mama.exchange.signature`): names of
    tasks come again when a run is continued, answers of before must not.
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
        """The experiment, after checking its hash and every value.

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
    """What a site says of itself before a run. Fingerprints are of the frozen base weights."""

    fingerprint: Sha256
    trained_parameters: int = Field(ge=0)
    frozen_parameters: int = Field(ge=0)


class Rehearsal(Section):
    """A rehearsed round at a site: seconds of its own from the task's arrival to its answer, and peak memory."""

    seconds: float = Field(ge=0, le=1e9)
    peak_mib: int = Field(ge=0, le=2**40)


class Answer(Header):
    """What a site answers. `status` is ok or an error code; at most one payload is set.

    `holds` is the checksum of the global model that the site keeps, to which a change may be sent; `final` that of the
    last model of a run, which it has put away.
    """

    site: SiteName
    status: Literal["ok"] | ErrorCode
    description: Description | None = None
    training: TrainingMetrics | None = None
    evaluation: EvaluationCounts | None = None
    rehearsal: Rehearsal | None = None
    final: Sha256 | None = None
    holds: Sha256 | None = None
