"""The encoder: a Hugging Face model of a supported family whose layers follow the sharing plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.model.attention import ATTENTION
from polytask.model.branches import BranchedLayer, build_branched_layer
from polytask.model.cpu_kernels import use_fast_kernels
from polytask.model.family import Family, family_in, layers_of, replace_layers, take_convolution
from polytask.model.forward_context import ContextHolder, Encoded, ExportContext, ForwardContext
from polytask.model.loading import explained, load_config, quiet
from polytask.model.mixing import MIXERS, Towers
from polytask.model.packing import PackedContext
from polytask.model.shared_layer import Origins, SharedLayer
from polytask.model.trust import require_no_adapter, require_sizes, require_whole, shapes_in
from polytask.sharing.plan import Plan
from polytask.sharing.sharing import Sharing

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Backbone(nn.Module):
    """A Hugging Face encoder without its pooler: pooling is done by the heads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010 - a module's attributes are typed as modules
        take_convolution(model)
        use_fast_kernels(model)
        self.model = model
        self.config: Any = model.config

    @classmethod
    def load(cls, location: str, attention_dropout: float | None = None) -> Backbone:
        """Load pretrained weights in float32. Raises ModelError if there are none that fit the configuration.

        Args:
            attention_dropout: attention dropout in training; None keeps the encoder's value.
        """
        config = load_config(location)
        if attention_dropout is not None:
            for part in (config, getattr(config, "encoder", None)):  # nested if there is a decoder too
                for name in ("attention_probs_dropout_prob", "attention_dropout"):
                    if hasattr(part, name):
                        setattr(part, name, attention_dropout)
        with quiet(), explained(location, "encoder"):
            require_no_adapter(location)
            weights = Path(location, "model.safetensors")
            if weights.is_file():
                require_sizes(config.to_dict(), shapes_in(weights), location)
            model, report = family_in(config).open(location, config)
        require_whole(report, list(model.state_dict()), str(model.base_model_prefix), location)
        return cls(model)

    @classmethod
    def build(cls, config: PretrainedConfig) -> Backbone:
        """Build with random weights, which are to be overwritten."""
        with quiet():
            return cls(family_in(config).build(config))

    @property
    def family(self) -> Family:
        """The encoder's family."""
        return family_in(self.config)

    @property
    def packs(self) -> bool:
        """Whether layers compute rows without their padding: attention has to know where rows are."""
        return self.family.packs and self.config._attn_implementation == ATTENTION

    @property
    def layers(self) -> int:
        """Number of layers with separate weights."""
        return len(layers_of(self.model, self.family))

    @property
    def width(self) -> int:
        """Hidden size."""
        return int(self.config.hidden_size)

    @property
    def longest(self) -> int:
        """Maximum length in tokens for which the encoder has positions."""
        return int(self.config.max_position_embeddings) - self.family.offset


# Greatest share of tokens in the padded rows with which leaving out the padding pays.
PACKED = 0.95


class Encoder(nn.Module):
    """One trunk: the embeddings that some tasks share, and the tree or mixture of layers above them.

    A shared layer replaces each layer; embeddings, masks, relative positions and a final norm remain those of the
    original model, and all tasks of the trunk share them.

    Args:
        backbone: the Hugging Face encoder; its layers are used, not copied.
        sharing: sharing of this trunk's tasks only.
    """

    def __init__(self, backbone: Backbone, sharing: Sharing) -> None:
        super().__init__()
        self.model = backbone.model
        self.family = backbone.family
        self.takes_types = self.family.takes_types(backbone.config)
        self.packs = backbone.packs
        self.tasks = frozenset(sharing.plan.tasks)
        self.holder = ContextHolder()
        self._freezes_words = False
        layers = list(layers_of(self.model, self.family))
        below = len(layers) if sharing.mixing is None else sharing.mixing.from_layer - 1
        levels = sharing.plan.levels[1:]
        self._layers: list[SharedLayer] = [
            build_branched_layer(layer, levels[number - 1], self.holder, sharing.kind, self.family, number)
            for number, layer in enumerate(layers[:below], start=1)
        ]
        if sharing.mixing is not None:
            self._layers += MIXERS[sharing.mixing.method].replacements(
                layers[below:], _towers(sharing), backbone.width, self.holder, sharing.mixing.options
            )
        replace_layers(self.model, self.family, nn.ModuleList(self._layers))
        self._freeze()

    def _freeze(self) -> None:
        """Freeze the embeddings if the lowest layer's shared parameters are frozen."""
        lowest = self.levels[:1]
        base = [parameter for level in lowest for parameter in level.measured(level.partition[0])]
        frozen = bool(base) and not any(parameter.requires_grad for parameter in base)
        for parameter in self.trunk_parameters():
            parameter.requires_grad_(not frozen)
        if self._freezes_words:
            self.words.requires_grad_(False)

    @property
    def words(self) -> nn.Parameter:
        """The word embeddings, of shape (vocabulary, features)."""
        return self.model.get_input_embeddings().weight  # type: ignore[operator]

    def embed(self, ids: Tensor) -> Tensor:
        """Look up word embeddings, of shape (tokens, features)."""
        return self.model.get_input_embeddings()(ids)  # type: ignore[operator]

    def forward(
        self,
        words: Tensor,
        mask: Tensor,
        type_ids: Tensor | None,
        reads: Mapping[str, Tensor],
        lengths: Sequence[int] | None = None,
        no_grad_tasks: frozenset[str] = frozenset(),
        idle: frozenset[str] = frozenset(),
    ) -> Encoded:
        """Encode rows.

        Args:
            words: word embeddings from `embed`, of shape (rows, tokens, features).
            mask: attention mask of shape (rows, tokens): 1 for a token and 0 for padding.
            type_ids: token type ids of shape (rows, tokens), or None.
            reads: for each task, the indices of the rows that it reads, ascending.
            lengths: number of tokens of each row, which padding follows, so that it can be left out; None to keep it.
            no_grad_tasks: tasks that need no gradient.
            idle: tasks that read a row only so that their layers run.

        Returns:
            For each task, the states of at least its rows, of shape (rows, tokens, width).
        """
        packs = self.packs and not torch.compiler.is_compiling()  # each number of tokens would be another graph
        if packs and lengths is not None and sum(lengths) <= PACKED * mask.numel():
            context: ForwardContext = PackedContext(lengths, words.shape[1], reads, no_grad_tasks, idle)
        else:
            context = ForwardContext(len(words), reads, no_grad_tasks, idle)
        return self._encode(context, words, mask, type_ids)

    def whole(self, words: Tensor, mask: Tensor, type_ids: Tensor | None) -> Encoded:
        """Encode rows that all tasks read, without using their number as a constant, for exporting a graph."""
        return self._encode(ExportContext(words.shape[0], sorted(self.tasks), words.device), words, mask, type_ids)

    def _encode(self, context: ForwardContext, words: Tensor, mask: Tensor, type_ids: Tensor | None) -> Encoded:
        extra: dict[str, Any] = {"token_type_ids": type_ids} if self.takes_types and type_ids is not None else {}
        if self.family.decoder:
            extra["use_cache"] = False  # copies of a layer would append to one another's keys
        self.holder.context = context
        states = self.model(inputs_embeds=words, attention_mask=mask, **extra).last_hidden_state
        self.holder.context = None
        return context.left(states)

    def follow(self, plan: Plan) -> Origins:
        """Apply a new plan of this trunk's tasks to the layers."""
        origins: Origins = {}
        for number, level in enumerate(self.levels, start=1):
            if level.partition != plan.levels[number]:
                origins |= level.follow(plan.levels[number])
        self._freeze()
        return origins

    @property
    def levels(self) -> tuple[BranchedLayer, ...]:
        """The layers that follow the plan, from layer 1."""
        return tuple(layer for layer in self._layers if isinstance(layer, BranchedLayer))

    def passes(self) -> float:
        """Return the encoder work for a text with all tasks, relative to an encoder without copies."""
        return sum(layer.runs for layer in self._layers) / len(self._layers)

    def freeze(self, layers: int) -> None:
        """Freeze the embeddings and the lowest `layers` layers; 0 freezes none."""
        for layer in self._layers[:layers]:
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
        for parameter in self.trunk_parameters() if layers else ():
            parameter.requires_grad_(False)

    def freeze_words(self) -> None:
        """Freeze the word embeddings."""
        self._freezes_words = True
        self.words.requires_grad_(False)

    def checkpointing(self, on: bool) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        for layer in self._layers:
            layer.checkpointing = on

    def units(self) -> list[nn.Module]:
        """Return the modules that are sharded separately: the word embeddings, and every part of every layer."""
        return [self.model.get_input_embeddings(), *(unit for layer in self._layers for unit in layer.units())]  # type: ignore[operator]

    def trunk_parameters(self) -> list[nn.Parameter]:
        """Return the parameters outside the layers."""
        inside = {parameter for layer in self._layers for parameter in layer.parameters()}
        return [parameter for parameter in self.model.parameters() if parameter not in inside]

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        """Yield the parameters with the tasks whose outputs depend on them."""
        yield self.trunk_parameters(), self.tasks
        for layer in self._layers:
            yield from ((parameters, tasks & self.tasks) for parameters, tasks in layer.users())

    def size(self, level: int, parts: int) -> int:
        """Return the number of parameters of a level with `parts` parts; level 0 is everything outside the layers."""
        if level:
            return self.levels[level - 1].size(parts)
        return parts * sum(parameter.numel() for parameter in self.trunk_parameters())

    def take(self, other: Encoder) -> None:
        """Copy the weights from a trunk of another model, for the tasks that it has."""
        self.model.load_state_dict(other.trunk_state(), strict=False)
        for own, old in zip(self._layers, other._layers, strict=True):
            own.take(old)

    def trunk_state(self) -> dict[str, Tensor]:
        """Return the weights outside the layers."""
        inside = ".".join(name for name in self.family.layers if name) + "."
        return {name: value for name, value in self.model.state_dict().items() if not name.startswith(inside)}

    def rate_factors(self, layer_decay: float = 1.0) -> dict[nn.Parameter, float]:
        """Return factors of the learning rate, for parameters whose factor is not 1.

        Args:
            layer_decay: factor from each layer to the one below it, down to the embeddings.
        """
        own = {parameter: factor for layer in self._layers for parameter, factor in layer.rate_factors().items()}
        if layer_decay == 1.0:
            return own
        layers = [self.trunk_parameters(), *(list(layer.parameters()) for layer in self._layers)]
        return {
            parameter: own.get(parameter, 1.0) * layer_decay ** (len(self._layers) - number)
            for number, parameters in enumerate(layers)
            for parameter in parameters
        }

    def copies(self) -> list[list[list[nn.Parameter]]]:
        """Return the parameters of every part, for the embeddings and for each layer of the plan."""
        layers = ([level.measured(part) for part in level.partition] for level in self.levels)
        return [[self.trunk_parameters()], *layers]


def _towers(sharing: Sharing) -> Towers:
    assert sharing.mixing is not None
    return Towers(sharing.mixing.towers or sharing.plan.tasks, sharing.plan.tasks)
