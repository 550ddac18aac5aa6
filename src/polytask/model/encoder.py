"""The encoder: a Hugging Face model of a promised family whose layers follow what the tasks share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from polytask.model.branches import BranchedLayer, build_branched_layer
from polytask.model.cpu_kernels import quicken
from polytask.model.family import Family, family_in, layers_of, replace_layers, take_convolution
from polytask.model.forward_context import ContextHolder, Encoded, ExportContext, ForwardContext
from polytask.model.loading import explained, load_config, quiet
from polytask.model.mixing import MIXERS, Towers
from polytask.model.shared_layer import Origins, SharedLayer
from polytask.model.trust import require_no_adapter, require_sizes, require_whole, shapes_in
from polytask.sharing.plan import Plan
from polytask.sharing.sharing import Sharing

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Backbone(nn.Module):
    """A Hugging Face encoder without its pooler: pooling is the heads' matter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010 - a module's attributes are typed as modules
        take_convolution(model)
        quicken(model)
        self.model = model
        self.config: Any = model.config

    @classmethod
    def load(cls, location: str, attention_dropout: float | None = None) -> Backbone:
        """Load pretrained weights in float32. Raises ModelError when there are none that fit the configuration.

        Args:
            attention_dropout: in training; None keeps the encoder's own.
        """
        config = load_config(location)
        if attention_dropout is not None:
            for place in (config, getattr(config, "encoder", None)):  # a part of it, where there is a decoder as well
                for name in ("attention_probs_dropout_prob", "attention_dropout"):
                    if hasattr(place, name):
                        setattr(place, name, attention_dropout)
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
        """Build with random weights, to be loaded into."""
        with quiet():
            return cls(family_in(config).build(config))

    @property
    def family(self) -> Family:
        """What is particular about this encoder's family."""
        return family_in(self.config)

    @property
    def layers(self) -> int:
        """Number of layers with weights of their own."""
        return len(layers_of(self.model, self.family))

    @property
    def width(self) -> int:
        """Features of a token's state."""
        return int(self.config.hidden_size)

    @property
    def longest(self) -> int:
        """The greatest number of tokens that the encoder has positions for."""
        return int(self.config.max_position_embeddings) - self.family.offset


class Encoder(nn.Module):
    """One trunk: the tasks that share its embeddings, and whatever tree or mixture stands on them.

    A shared layer replaces each layer; embeddings, masks, relative positions and a final norm stay the original
    model's, and are shared by all tasks of the trunk.

    Args:
        backbone: its layers are taken over, not copied.
        sharing: of this trunk's tasks only.
    """

    def __init__(self, backbone: Backbone, sharing: Sharing) -> None:
        super().__init__()
        self.model = backbone.model
        self.family = backbone.family
        self.takes_types = self.family.takes_types(backbone.config)
        self.tasks = frozenset(sharing.plan.tasks)
        self.holder = ContextHolder()
        self._keeps_words = False
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
        """Freeze the embeddings where everything that stands on them is frozen or small."""
        lowest = self.levels[:1]
        base = [parameter for level in lowest for parameter in level.measured(level.partition[0])]
        frozen = bool(base) and not any(parameter.requires_grad for parameter in base)
        for parameter in self.trunk_parameters():
            parameter.requires_grad_(not frozen)
        if self._keeps_words:
            self.words.requires_grad_(False)

    @property
    def words(self) -> nn.Parameter:
        """The word embeddings: vocabulary x features."""
        return self.model.get_input_embeddings().weight  # type: ignore[operator]

    def embed(self, ids: Tensor) -> Tensor:
        """Look up word embeddings: tokens -> tokens x features."""
        return self.model.get_input_embeddings()(ids)  # type: ignore[operator]

    def forward(
        self,
        words: Tensor,
        mask: Tensor,
        type_ids: Tensor | None,
        reads: Mapping[str, Tensor],
        no_grad_tasks: frozenset[str] = frozenset(),
        idle: frozenset[str] = frozenset(),
    ) -> Encoded:
        """Encode.

        Args:
            words: rows x tokens x features, from `embed`.
            mask: rows x tokens, 1 for a token and 0 for padding.
            type_ids: rows x tokens, or None.
            reads: for each task the rows that it reads, ascending.
            no_grad_tasks: the tasks that ask for no gradient.
            idle: the tasks that read a row only so that their layers run.

        Returns:
            For each task the states of (at least) its rows: rows x tokens x width.
        """
        return self._encode(ForwardContext(len(words), reads, no_grad_tasks, idle), words, mask, type_ids)

    def whole(self, words: Tensor, mask: Tensor, type_ids: Tensor | None) -> Encoded:
        """Encode rows that all tasks read, without a look at their number: for drawing a graph of any size."""
        return self._encode(ExportContext(words.shape[0], sorted(self.tasks), words.device), words, mask, type_ids)

    def _encode(self, context: ForwardContext, words: Tensor, mask: Tensor, type_ids: Tensor | None) -> Encoded:
        extra: dict[str, Any] = {"token_type_ids": type_ids} if self.takes_types and type_ids is not None else {}
        if self.family.decoder:
            extra["use_cache"] = False  # copies of a layer would add to one another's keys
        self.holder.context = context
        states = self.model(inputs_embeds=words, attention_mask=mask, **extra).last_hidden_state
        self.holder.context = None
        return Encoded(states, context.groups)

    def follow(self, plan: Plan) -> Origins:
        """Divide the layers anew, by a plan of this trunk's tasks."""
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
        """Return the encoder work for a text that asks for all tasks, relative to an encoder without copies."""
        return sum(layer.runs for layer in self._layers) / len(self._layers)

    def freeze(self, layers: int) -> None:
        """Let the embeddings and so many layers, from the lowest, stay as they are; 0 trains all of them."""
        for layer in self._layers[:layers]:
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
        for parameter in self.trunk_parameters() if layers else ():
            parameter.requires_grad_(False)

    def keep_words(self) -> None:
        """Let the word embeddings stay as they are."""
        self._keeps_words = True
        self.words.requires_grad_(False)

    def checkpointing(self, on: bool) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        for layer in self._layers:
            layer.checkpointing = on

    def units(self) -> list[nn.Module]:
        """Return the modules that are sharded each by itself: the word embeddings, and every part of every layer."""
        return [self.model.get_input_embeddings(), *(unit for layer in self._layers for unit in layer.units())]  # type: ignore[operator]

    def trunk_parameters(self) -> list[nn.Parameter]:
        """Return the parameters outside of the layers."""
        inside = {parameter for layer in self._layers for parameter in layer.parameters()}
        return [parameter for parameter in self.model.parameters() if parameter not in inside]

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        """Yield the parameters with the tasks whose outputs depend on them."""
        yield self.trunk_parameters(), self.tasks
        for layer in self._layers:
            yield from ((parameters, tasks & self.tasks) for parameters, tasks in layer.users())

    def size(self, level: int, parts: int) -> int:
        """Return the parameters of a level with so many parts; level 0 is everything outside of the layers."""
        if level:
            return self.levels[level - 1].size(parts)
        return parts * sum(parameter.numel() for parameter in self.trunk_parameters())

    def take(self, other: Encoder) -> None:
        """Take the weights over from a trunk of another model, for the tasks that it has."""
        self.model.load_state_dict(other.trunk_state(), strict=False)
        for own, old in zip(self._layers, other._layers, strict=True):
            own.take(old)

    def trunk_state(self) -> dict[str, Tensor]:
        """Return the weights outside of the layers."""
        inside = ".".join(name for name in self.family.layers if name) + "."
        return {name: value for name, value in self.model.state_dict().items() if not name.startswith(inside)}

    def rate_factors(self, layer_decay: float = 1.0) -> dict[nn.Parameter, float]:
        """Return factors of the learning rate; what comes with no factor of its own is left out.

        Args:
            layer_decay: from each layer to the one below it, from the highest down to the embeddings.
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
        """Return for the embeddings and for each layer under the plan the parameters of every part."""
        layers = ([level.measured(part) for part in level.partition] for level in self.levels)
        return [[self.trunk_parameters()], *layers]


def _towers(sharing: Sharing) -> Towers:
    assert sharing.mixing is not None
    return Towers(sharing.mixing.towers or sharing.plan.tasks, sharing.plan.tasks)
