"""Experiment configuration: everything the coordinator decides, identical at all sites.

It is sent to the sites as canonical JSON and validated there again as hostile input: it names
models but never paths, and model options are limited to numbers and switches from a fixed list.
"""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config.base import Fraction, Section
from mama.config.federation import ExchangeConfig, FederationConfig, ParticipationConfig
from mama.config.losses import LossConfig
from mama.config.privacy import PrivacyConfig, not_hidden, not_private_by_site
from mama.config.strategy import StrategyConfig, conflicts
from mama.config.towers import ImageTowerConfig, TextTowerConfig


class HeadsConfig(Section):
    """Widths of the projections after the towers (paper: 512, 768, 2048).

    `norm` is `layer`, or `batch` as in the paper. Running statistics of BatchNorm can be neither
    averaged nor made private: in a federation they must be listed in `strategy.local`.
    """

    norm: Literal["layer", "batch"] = "layer"
    """Normalisation in the local heads: layer, or batch as in the paper."""

    embedding: int = Field(512, ge=2, le=8192)
    """Width of the joint embedding space of images and texts."""
    view_hidden: int = Field(768, ge=2, le=8192)
    """Hidden width of the projection between views."""
    local_hidden: int = Field(2048, ge=2, le=8192)
    """Hidden width of the patch and sentence projections."""


class AugmentConfig(Section):
    """Augmentation of each view; the chest wall is always on the left.

    `flip` is the probability of each of the two flips (paper 0.5), which contradict statements on
    sides and quadrants in the report. `crop` is the smallest share of the canvas that a random crop
    keeps (paper 0.1; 1 disables cropping); the crop is resized to the canvas. `second_view` is
    drawn from the same breast or from the whole study.
    """

    crop: float = Field(1.0, gt=0, le=1)
    """Smallest share of the canvas that a random crop keeps; 1 disables cropping."""
    flip: Fraction = 0.0
    """Probability of a horizontal flip, and independently of a vertical flip."""
    second_view: Literal["same_breast", "any_in_study"] = "same_breast"
    """Source of the second view: the same breast, or any image of the study."""

    rotate_degrees: float = Field(10, ge=0, le=180)
    """Largest rotation in either direction, in degrees."""
    shift: Fraction = 0.05
    """Largest translation, as a share of the canvas."""
    min_scale: float = Field(0.9, gt=0, le=1)
    """Smallest scale factor."""
    max_scale: float = Field(1.1, ge=1, le=4)
    """Largest scale factor."""
    brightness: Fraction = 0.2
    """Largest relative change of brightness."""
    contrast: Fraction = 0.2
    """Largest relative change of contrast."""
    jitter_probability: Fraction = Field(
        1.0, description="probability of changing brightness and contrast (paper: 0.8)"
    )
    blur_probability: Fraction = 0.0
    """Probability of blurring a view."""
    second_view_probability: Fraction = 0.5
    """Probability that the second view is another image, if the study has one."""
    max_sentences: int | None = Field(
        None, ge=1, le=1000, description="most sentences of a report in a step, drawn at random"
    )


class OptimiserConfig(Section):
    """AdamW with linear warm-up and cosine decay to zero over the planned steps."""

    lr: float = Field(4e-5, gt=0, le=1)
    """Peak learning rate."""
    weight_decay: float = Field(0.1, ge=0, le=1)
    """Weight decay of weight matrices."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Betas of AdamW."""
    warmup: Fraction = 0.1
    """Fraction of the planned steps over which the learning rate rises."""
    clip_norm: float | None = Field(
        1.0, gt=0, description="largest gradient norm of a step; null disables clipping (paper)"
    )
    batch_size: int = Field(16, ge=1, le=4096, description="studies per batch, one per patient")
    accumulate: int = Field(
        1, ge=1, le=1024, description="batches per step, each with its own loss"
    )
    decay_everything: bool = Field(
        False, description="apply weight decay also to norms, biases and logit scales (paper)"
    )
    keep_state: bool = True
    """Keep the optimiser state between rounds."""


class ComputeConfig(Section):
    """Computation of a step; no key changes the result beyond rounding.

    `chunk` is gradient caching (Gao et al. 2021): the towers process this many studies at a time,
    the losses the whole batch. `checkpointing` keeps only the inputs of the blocks and computes
    each block twice. `compile` is torch.compile.
    """

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numeric precision of a step; auto is bf16 on a GPU that supports it."""
    chunk: int | None = Field(None, ge=1, le=4096)
    """Studies that the towers process at a time; null is the whole batch."""
    checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    compile: bool = False
    """Compile the model with torch.compile."""


Prompt = Annotated[str, Field(min_length=1, max_length=300)]
Prompts = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")],
        Annotated[list[Prompt], Field(min_length=1, max_length=64)],
    ],
    Field(min_length=2, max_length=16),
]


class EvaluationConfig(Section):
    """Zero-shot prompts, an ensemble of sentences per class; `suspicious` has classes no and yes.

    `metadata` prepends each image's own laterality and view to the class prompt, as the paper does;
    `balanced` scores a subset with equally many units of each class.
    """

    metadata: bool = False
    """Prepend the image's laterality and view to the prompts (paper)."""
    balanced: bool = False
    """Score a subset with equally many units of each class."""

    density: Prompts
    """Prompts of each density class."""
    suspicious: Prompts
    """Prompts of the classes no and yes."""

    @model_validator(mode="after")
    def _binary(self) -> "EvaluationConfig":
        if set(self.suspicious) != {"no", "yes"}:
            raise ValueError("evaluation.suspicious needs exactly the classes 'no' and 'yes'")
        return self

    def classes(self, label: str) -> set[str]:
        """Return the classes of a label, density or suspicious."""
        return set(self.density if label == "density" else self.suspicious)


class Experiment(Section):
    """Complete configuration of an experiment, from model to evaluation."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """The experiment's name: letters, digits, dots, hyphens and underscores."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of all random draws: initial weights, batches, augmentation."""
    init_from: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None,
        description="folder `final/` of an earlier run whose trained weights the run starts from; "
        "replaced by their fingerprint in the experiment sent to sites",
    )
    image: ImageTowerConfig
    """The image tower."""
    text: TextTowerConfig
    """The text tower."""
    heads: HeadsConfig = HeadsConfig()
    """Projections after the towers."""
    loss: LossConfig = LossConfig()
    """Four terms of the loss."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of each view."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """Optimiser of local training."""
    compute: ComputeConfig = ComputeConfig()
    """Precision, memory and compilation of a step."""
    federation: FederationConfig = FederationConfig()
    """Rounds of the run."""
    participation: ParticipationConfig = ParticipationConfig()
    """Sites of a round, quorum and deadlines."""
    strategy: StrategyConfig = StrategyConfig()
    """Local training, weights and aggregation."""
    exchange: ExchangeConfig = ExchangeConfig()
    """Encoding of updates and of the global model."""
    privacy: PrivacyConfig = PrivacyConfig()
    """Differential privacy and secure aggregation."""
    evaluation: EvaluationConfig
    """Zero-shot prompts and scoring."""

    @model_validator(mode="after")
    def _strategy_fits(self) -> "Experiment":
        for why in conflicts(self.strategy, self.participation, self.federation):
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _privacy_holds(self) -> "Experiment":
        privacy, by_site = self.privacy, not_private_by_site
        sections = self.strategy, self.participation
        for on, key, refusals in (
            (privacy.mode == "patient", "mode patient", _not_private(self)),
            (privacy.mode == "site", "mode site", by_site(*sections, privacy)),
            (privacy.secure is not None, "secure", not_hidden(*sections, self.exchange, privacy)),
        ):
            for refused, why in refusals if on else ():
                if refused:
                    raise ValueError(f"privacy.{key}: {why}")
        return self

    @model_validator(mode="after")
    def _starts_from_what_travels(self) -> "Experiment":
        if self.init_from is not None and self.strategy.local:
            raise ValueError(
                "init_from: tensors of strategy.local stay at the sites and cannot come from "
                "another run; leave one of the two out"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Planned local steps of the whole run, on which the schedule and late starts are based."""
        return self.federation.rounds * self.federation.local_steps

    def canonical_json(self) -> str:
        """Return the canonical text: sorted keys, no spaces, all defaults written out."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    def hash(self) -> str:
        """Return the SHA-256 digest of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


def _not_private(experiment: Experiment) -> tuple[tuple[bool, str], ...]:
    """Return the conditions under which the stated epsilon would be false, each with its reason."""
    config, compute = experiment, experiment.compute
    return (
        (
            compute.precision == "fp16",
            "fp16's loss scale would carry one patient's overflow into other steps; "
            "set compute.precision bf16 or fp32",
        ),
        (
            config.heads.norm == "batch",
            "BatchNorm's running statistics are neither clipped nor noised; set heads.norm layer",
        ),
        (
            compute.chunk is not None,
            "the gradient of a group is clipped as a whole and so computed as a whole; leave "
            "compute.chunk out and lower privacy.group_size",
        ),
        (
            config.optimiser.accumulate > 1,
            "a step is one Poisson sample of groups; set optimiser.accumulate 1 and raise "
            "privacy.sample_rate",
        ),
        (
            config.participation.budget_s is not None,
            "the number of steps done in time would reveal the groups drawn; leave "
            "participation.budget_s out",
        ),
        (
            config.federation.evaluate_every > 0,
            "evaluations are not noised and must not leave the sites; "
            "set federation.evaluate_every 0",
        ),
        (
            config.strategy.weights not in ("studies", "uniform") or config.strategy.fairness > 0,
            "numbers of patients, steps and losses depend on the data; set strategy.weights "
            "uniform and strategy.fairness 0",
        ),
        (
            config.strategy.scaffold or config.strategy.guidance > 0,
            "control variates and guidance use gradients other than the clipped ones; leave "
            "strategy.scaffold and strategy.guidance out",
        ),
    )
