"""Text tower: a frozen language model with LoRA and trained vectors at its special tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mama.config import TextTowerConfig
from mama.errors import ModelError
from mama.towers.checks.probe import probe
from mama.towers.checks.words import require_rows
from mama.towers.language_model import load_language_model
from mama.towers.lora import add_lora
from mama.towers.tokens import ReportTokeniser, Tokens

# Two reports of different length for the probe.
PROBE_REPORTS = (("no mass.", "the breast is dense."), ("mass in the left breast.",))


class TextFeatures(NamedTuple):
    """Features of N reports.

    `pooled` (N, D) is the mean over a report's real tokens. `sentences` (S, D) are concatenated in
    the order of the reports; `counts` (N,) int64, on the CPU, is each report's number of sentences.
    """

    pooled: Tensor
    sentences: Tensor
    counts: Tensor


class SpecialIds(NamedTuple):
    """Token ids at the start of a report and after a sentence; None if the model has none."""

    start: int | None
    separator: int | None


class TextTower(nn.Module):
    """A transformers encoder or causal model whose own weights stay frozen.

    Trained are LoRA adapters and `separator`, a vector added to the embedding of each sentence's
    separator token: sentence features are read at that token (MaMA, section 2), so it must be able
    to learn. In a model without a separator token, the vector is the token's whole embedding. A
    model without a start token, or whose start token is its separator (GPT-2), has a second such
    vector, `start`. The base model's embedding table keeps its shape.

    Args:
        config: the experiment's text tower.
        folder: local folder of the base model (config, tokeniser and, for `from_weights`, weights),
            or its hub name.
        from_weights: False builds the architecture alone, for a caller that loads a state dict.

    Raises:
        ModelError: the base model cannot be loaded or used, or its tokeniser or the LoRA targets do
            not fit it.
    """

    def __init__(self, config: TextTowerConfig, folder: str | Path, *, from_weights: bool = True):
        super().__init__()
        self.config = config
        self.tokeniser, backbone = load_language_model(config, folder, from_weights=from_weights)
        self._reports = ReportTokeniser(self.tokeniser, config.max_tokens)
        embeddings = backbone.get_input_embeddings().weight
        separator_id, start_id = self._reports.separator_id, self._reports.start_id
        where = f"text.tower {config.tower}"
        require_rows(self.tokeniser, len(embeddings), {separator_id, start_id}, where)
        self.separator = _special(separator_id, embeddings)
        self.start = _special(start_id, embeddings) if start_id in (None, separator_id) else None
        self.width: int = backbone.config.hidden_size
        add_lora(backbone, config)
        self.backbone: Any = backbone
        # Quantised weights need a GPU.
        if from_weights and config.base_bits is None:
            probe(
                self,
                lambda numbers: self(self.tokenise([PROBE_REPORTS[n] for n in numbers]))[:2],
                where,
            )

    @property
    def special_ids(self) -> SpecialIds:
        """Special tokens of the base model that the tower uses."""
        return SpecialIds(self._reports.start_id, self._reports.separator_id)

    def tokenise(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokenise N >= 1 reports, each a sequence of sentences; see `ReportTokeniser`."""
        return self._reports(reports)

    def forward(self, tokens: Tokens) -> TextFeatures:
        """Encode a batch of reports; no report affects another, and padding has no effect."""
        states = self.backbone(
            inputs_embeds=self._embedded(tokens), attention_mask=tokens.mask.long()
        ).last_hidden_state
        weights = tokens.mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1)
        states = states.flatten(0, 1)
        if self.config.sentences == "separator":
            sentences = states.index_select(0, tokens.separators)
        else:
            sentences = _means(states, tokens.owners.flatten(), len(tokens.separators))
        return TextFeatures(pooled, sentences, tokens.counts)

    def set_checkpointing(self, on: bool) -> None:
        """Switch activation checkpointing: keep only block inputs, recompute blocks backward.

        Raises:
            ModelError: transformers does not support it for this architecture.
        """
        backbone = self.backbone
        if not backbone.supports_gradient_checkpointing:
            raise ModelError(
                "does not support activation checkpointing",
                where=f"text.tower {self.config.tower}",
                fix="Set compute.checkpointing: false",
            )
        # Newer transformers versions deprecate the name gradient checkpointing.
        kind = "activation" if hasattr(backbone, "activation_checkpointing_enable") else "gradient"
        if not on:
            getattr(backbone, f"{kind}_checkpointing_disable")()
            return
        getattr(backbone, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        # Only reentrant checkpoints need embeddings that require a gradient.
        backbone.disable_input_require_grads()

    def compile_blocks(self) -> None:
        """Compile the blocks, which are alike, once for all and for any number of tokens."""
        alike = set(self.backbone._no_split_modules or ())
        blocks = [part for part in self.backbone.modules() if type(part).__name__ in alike]
        for part in blocks or [self.backbone]:
            part.compile(dynamic=True)

    def _embedded(self, tokens: Tokens) -> Tensor:
        """Return embeddings (N, T, D) with the trained vectors inserted."""
        ids = tokens.ids
        embedded = self.backbone.get_input_embeddings()(ids).flatten(0, 1)
        embedded = _put(embedded, tokens.separators, self.separator, self._reports.separator_id)
        if self.start is not None:
            first = torch.arange(len(ids), device=ids.device) * ids.shape[1]
            embedded = _put(embedded, first, self.start, self._reports.start_id)
        return embedded.unflatten(0, ids.shape)


def _special(token: int | None, embeddings: Tensor) -> nn.Parameter:
    """Initialise a special token's vector: 0 if the model has the token, else the mean row."""
    mean = embeddings.detach().float().mean(0)
    return nn.Parameter(torch.zeros_like(mean) if token is not None else mean)


def _put(embedded: Tensor, places: Tensor, vector: Tensor, token: int | None) -> Tensor:
    """Add the vector at these rows if the base model has the token, else replace the rows by it."""
    put = torch.index_copy if token is None else torch.index_add
    return put(embedded, 0, places, vector.expand(len(places), -1))


def _means(states: Tensor, owners: Tensor, groups: int) -> Tensor:
    """Return means (groups, D) of `states` (R, D) by owner; owner `groups` is ignored."""
    sums = states.new_zeros(groups + 1, states.shape[1]).index_add(0, owners, states)
    sizes = states.new_zeros(groups + 1).index_add(0, owners, states.new_ones(len(owners)))
    return sums[:groups] / sizes[:groups, None]
