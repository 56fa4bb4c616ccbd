"""The experiment: everything the coordinator decides, equal for all sites.

It travels to the sites as canonical JSON, where it is validated again as hostile input: it names models but
never paths, and only model options that are numbers or switches from a fixed list.
"""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config_federation import FederationConfig
from mama.config_privacy import PrivacyConfig, not_hidden, not_private_by_site
from mama.config_towers import ImageTowerConfig, TextTowerConfig
from mama.section import Fraction, Section, Weight


class HeadsConfig(Section):
    """Widths of the projections after the towers (paper: 512, 768, 2048).

    `norm`: `layer`, or the paper's `batch`, whose running statistics can be neither averaged nor private: in a
    federation they must be among `federation.local`.
    """

    norm: Literal["layer", "batch"] = "layer"
    """Normalisation in the local heads: layer, or the paper's batch."""

    embedding: int = Field(512, ge=2, le=8192)
    """Width of the space that images and texts share."""
    view_hidden: int = Field(768, ge=2, le=8192)
    """Hidden width of the projection between views."""
    local_hidden: int = Field(2048, ge=2, le=8192)
    """Hidden width of the projections of patches and sentences."""


class TermConfig(Section):
    """One loss: its weight, and the fraction of the planned steps after which it joins."""

    weight: Weight = 1.0
    """Weight of the term; 0 switches it off."""
    start: Fraction = 0.0
    """Fraction of the planned steps after which the term is added."""


class LossConfig(Section):
    """The four terms of MaMA. The paper starts the last three at step 8000 of 40000."""

    image_text: TermConfig = TermConfig()
    """The term of an image against its report."""
    second_text: TermConfig = TermConfig()
    """The term of the second view against the report."""
    image_image: TermConfig = TermConfig()
    """The term of one view against the other."""
    local: TermConfig = TermConfig(start=0.2)
    """The term of patches against sentences."""
    view_temperature: float = Field(0.5, gt=0, le=10)
    """Temperature of the term of one view against the other."""
    max_scale: float = Field(
        100.0, ge=1, le=1000, description="upper limit of both exp(logit scales)"
    )
    identical_texts_match: bool = True
    """Count equal reports of two patients as a match."""
    other_breast_text: bool = Field(
        False,
        description="a second view of the other breast is also held to this side's report (paper)",
    )

    @model_validator(mode="after")
    def _one_from_the_start(self) -> "LossConfig":
        terms = (self.image_text, self.second_text, self.image_image, self.local)
        if not any(term.weight > 0 and term.start == 0 for term in terms):
            raise ValueError("at least one term needs a weight above 0 and start 0")
        return self


class AugmentConfig(Section):
    """Augmentation of each view; a breast always lies with its chest wall to the left.

    `flip` is the probability of each of two mirrorings (paper 0.5); they contradict what a report says of sides
    and quadrants. `crop` is the smallest share of the canvas that a random crop may keep (paper 0.1), 1 crops
    nothing; the crop is enlarged to the canvas. `second_view` may be of the same breast, or any in the study.
    """

    crop: float = Field(1.0, gt=0, le=1)
    """Smallest share of the canvas that a random crop keeps; 1 switches cropping off."""
    flip: Fraction = 0.0
    """Probability of a horizontal flip, and of a vertical one."""
    second_view: Literal["same_breast", "any_in_study"] = "same_breast"
    """Where the second view comes from: the same breast, or any image of the study."""

    rotate_degrees: float = Field(10, ge=0, le=180)
    """Largest rotation in either direction."""
    shift: Fraction = 0.05
    """Largest shift, as a share of the canvas."""
    min_scale: float = Field(0.9, gt=0, le=1)
    """Smallest scale."""
    max_scale: float = Field(1.1, ge=1, le=4)
    """Largest scale."""
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
    """Probability that the second view is another image, where there is one."""
    max_sentences: int | None = Field(
        None, ge=1, le=1000, description="of a report a step sees at most so many, drawn at random"
    )


class OptimiserConfig(Section):
    """AdamW with linear warm-up and a cosine to zero over the planned steps."""

    lr: float = Field(4e-5, gt=0, le=1)
    """Peak learning rate."""
    weight_decay: float = Field(0.1, ge=0, le=1)
    """Weight decay of weight matrices."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """AdamW's betas."""
    warmup: Fraction = 0.1
    """Fraction of the planned steps over which the learning rate rises."""
    clip_norm: float | None = Field(
        1.0, gt=0, description="longest gradient of a step; null clips none (paper)"
    )
    batch_size: int = Field(16, ge=1, le=4096, description="studies a step, one a patient")
    accumulate: int = Field(
        1, ge=1, le=1024, description="batches a step, each with a loss of its own"
    )
    decay_everything: bool = Field(
        False, description="weight decay also on norms, biases and logit scales (paper)"
    )
    keep_state: bool = True
    """Keep the optimiser's state between rounds."""


class ComputeConfig(Section):
    """How a step is computed; none of it changes what is computed but for rounding.

    `chunk`: gradient caching (Gao et al. 2021): towers see so many studies at a time, the losses the whole
    batch. `checkpointing` keeps only the blocks' inputs and computes the blocks twice. `compile` is torch.compile.
    """

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of a step; auto takes bf16 on a GPU that supports it."""
    chunk: int | None = Field(None, ge=1, le=4096)
    """Studies that pass through the towers at a time; null passes the whole batch."""
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
    """Zero-shot prompts by class: an ensemble of sentences a class. `suspicious` has the classes no and yes.

    `metadata` puts each image's own side and view before the class prompt, as the paper does;
    `balanced` scores a subset with equally many units of each class.
    """

    metadata: bool = False
    """Put the image's laterality and view before the prompts (paper)."""
    balanced: bool = False
    """Score a subset with the same number of units of each class."""

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
        """The classes of a label, density or suspicious."""
        return set(self.density if label == "density" else self.suspicious)


class Experiment(Section):
    """One experiment, from model to evaluation."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """The experiment's name: letters, digits, dots, hyphens and underscores."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of everything that is drawn: initial weights, batches, augmentation."""
    init_from: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None,
        description="an earlier run's final/, whose trained weights the run starts from; the fingerprint takes its "
        "place in the experiment",
    )
    image: ImageTowerConfig
    """The image tower."""
    text: TextTowerConfig
    """The text tower."""
    heads: HeadsConfig = HeadsConfig()
    """The projections after the towers."""
    loss: LossConfig = LossConfig()
    """The four terms of the loss."""
    augment: AugmentConfig = AugmentConfig()
    """The augmentation of each view."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """The optimiser of local training."""
    compute: ComputeConfig = ComputeConfig()
    """Precision, memory and compilation of a step."""
    federation: FederationConfig = FederationConfig()
    """Rounds, sites and aggregation."""
    privacy: PrivacyConfig = PrivacyConfig()
    """Differential privacy and secure aggregation."""
    evaluation: EvaluationConfig
    """Zero-shot prompts and scoring."""

    @model_validator(mode="after")
    def _privacy_holds(self) -> "Experiment":
        federation, privacy = self.federation, self.privacy
        for on, key, refusals in (
            (privacy.mode == "patient", "mode patient", _not_private(self)),
            (privacy.mode == "site", "mode site", not_private_by_site(federation, privacy)),
            (privacy.secure is not None, "secure", not_hidden(federation, privacy)),
        ):
            for refused, why in refusals if on else ():
                if refused:
                    raise ValueError(f"privacy.{key}: {why}")
        return self

    @model_validator(mode="after")
    def _starts_from_what_travels(self) -> "Experiment":
        if self.init_from is not None and self.federation.local:
            raise ValueError(
                "init_from: what federation.local keeps at the sites cannot come from another run; leave one out"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Planned local steps of the whole run; the schedule and late starts are fractions of it."""
        return self.federation.rounds * self.federation.local_steps

    def canonical_json(self) -> str:
        """The one text of this experiment: sorted keys, no spaces, every default written out."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    def hash(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


def _not_private(experiment: Experiment) -> tuple[tuple[bool, str], ...]:
    """What would make the stated epsilon untrue, each with its reason."""
    config, compute = experiment, experiment.compute
    return (
        (
            compute.precision == "fp16",
            "fp16's loss scale would carry one patient's overflow to other steps; set compute.precision bf16 or fp32",
        ),
        (
            config.heads.norm == "batch",
            "BatchNorm's running statistics are neither clipped nor noised; set heads.norm layer",
        ),
        (
            compute.chunk is not None,
            "a group is computed whole, as its gradient is clipped whole; leave compute.chunk out and lower "
            "privacy.group_size",
        ),
        (
            config.optimiser.accumulate > 1,
            "a step is one Poisson sample of groups; set optimiser.accumulate 1 and raise privacy.sample_rate",
        ),
        (
            config.federation.budget_s is not None,
            "the number of steps done in time would tell of the groups drawn; leave federation.budget_s out",
        ),
        (
            config.federation.evaluate_every > 0,
            "evaluations are not noised and stay at the sites; set federation.evaluate_every 0",
        ),
        (
            config.federation.weights not in ("studies", "uniform")
            or config.federation.fairness > 0,
            "patients, steps and losses are the data's; set federation.weights uniform and federation.fairness 0",
        ),
        (
            config.federation.scaffold or config.federation.guidance > 0,
            "control variates and guidance use gradients beside the clipped ones; leave federation.scaffold and "
            "federation.guidance out",
        ),
    )
