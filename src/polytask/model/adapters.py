"""Adapters of a layer that several parts share: LoRA and bottleneck adapters.

One forward pass serves a batch that mixes parts: each linear module adds the output of a part's adapter to its rows.
PEFT's layers do not accept rows of several adapters in training, and loading a shipped model would then require PEFT.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.errors import ConfigError, nearest
from polytask.model.family import Family
from polytask.model.shared_layer import Origins, divided, size
from polytask.sharing.sharing import PartKind


class Adapter(nn.Module, ABC):
    """A linear module with an adapter for each part.

    Attributes:
        sections: indices of the parts, in the order of their rows in the batch, with their numbers of rows.
        no_grad_parts: indices of the parts whose rows need no gradient.
    """

    def __init__(self, base: nn.Linear, kind: PartKind) -> None:
        super().__init__()
        self.base = base
        self.kind = kind
        self.parts = nn.ModuleList()
        self.sections: tuple[tuple[int, int], ...] = ()
        self.no_grad_parts: frozenset[int] = frozenset()

    @abstractmethod
    def make(self) -> nn.Module:
        """Return the adapter module of a new part, initialised so that it adds 0."""

    @abstractmethod
    def delta(self, own: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return what a part adds, given the inputs and outputs of the linear module."""

    @classmethod
    @abstractmethod
    def default_targets(cls, family: Family, names: Sequence[str]) -> list[str]:
        """Return the names of the linear modules of a layer that get an adapter by default."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs of shape (rows, tokens, size)."""
        outputs = self.base(inputs)
        if not len(self.parts):
            return outputs
        counts = [count for _, count in self.sections]
        indices = [index for index, _ in self.sections]
        added = [
            self.delta(self.parts[index], rows, out)
            for index, rows, out in zip(indices, inputs.split(counts), outputs.split(counts), strict=True)
        ]
        if self.no_grad_parts:
            added = [
                own.detach() if index in self.no_grad_parts else own for index, own in zip(indices, added, strict=True)
            ]
        return outputs + (added[0] if len(added) == 1 else torch.cat(added))

    def grow(self, count: int) -> None:
        """Create the adapter modules of `count` parts."""
        self.parts = nn.ModuleList([self.make().to(self.base.weight.device) for _ in range(count)])

    def follow(self, sources: Sequence[Sequence[int]], origins: Origins) -> None:
        """Build the parts' modules from those of the old parts, or create them if there were none."""
        if len(self.parts):
            self.parts = divided(list(self.parts), sources, origins)
        else:
            self.grow(len(sources))

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all parts."""
        return list(self.parts.parameters())

    def parameters_of(self, part: int) -> list[nn.Parameter]:
        """Return the parameters of one part."""
        return list(self.parts[part].parameters()) if len(self.parts) else []

    @property
    def size_of_part(self) -> int:
        """Number of parameters that one more part adds."""
        with torch.device("meta"):  # counting must not consume random numbers of the training
            return size(self.make())

    @classmethod
    def insert(cls, layer: nn.Module, kind: PartKind, family: Family) -> list[Adapter]:
        """Replace the target linear modules of a layer. Raises ConfigError if a target matches none."""
        linear = [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
        usable = [name for name in linear if name.rpartition(".")[2] not in family.positional]
        names = _named(kind.targets, usable) if kind.targets else cls.default_targets(family, usable)
        adapters: list[Adapter] = []
        for name in dict.fromkeys(names):  # two targets may match one module
            path, _, attribute = name.rpartition(".")
            parent = layer.get_submodule(path)
            base = getattr(parent, attribute)
            adapter = cls(base, kind)
            setattr(parent, attribute, adapter)
            adapters.append(adapter)
        return adapters


class LoraAdapter(Adapter):
    """Adds alpha / rank * B A x, with B initialised to zero (Hu et al. 2021, section 4.1)."""

    def make(self) -> nn.Module:
        down = nn.Linear(self.base.in_features, self.kind.rank, bias=False)
        up = nn.Linear(self.kind.rank, self.base.out_features, bias=False)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        return nn.Sequential(down, up)

    def delta(self, own: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
        del outputs
        return own(inputs) * (self.kind.alpha / self.kind.rank)

    @classmethod
    def default_targets(cls, family: Family, names: Sequence[str]) -> list[str]:
        del family
        return list(names)


class BottleneckAdapter(Adapter):
    """Adds a bottleneck with a skip connection after attention and feed-forward (Houlsby et al. 2019, section 2.1)."""

    def make(self) -> nn.Module:
        down = nn.Linear(self.base.out_features, self.kind.rank)
        up = nn.Linear(self.kind.rank, self.base.out_features)
        nn.init.normal_(down.weight, std=0.02)
        nn.init.zeros_(down.bias)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        return nn.ModuleList([down, up])

    def delta(self, own: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
        del inputs
        assert isinstance(own, nn.ModuleList)
        return own[1](F.gelu(own[0](outputs)))

    @classmethod
    def default_targets(cls, family: Family, names: Sequence[str]) -> list[str]:
        return list(_named(family.outputs, names))


ADAPTERS: dict[str, type[Adapter]] = {"lora": LoraAdapter, "adapter": BottleneckAdapter}


def _named(targets: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the modules that match the targets: by their name, or by the end of their path."""
    for target in targets:
        matches = [name for name in names if f".{name}".endswith(f".{target}")]
        if not matches:
            accepted = dict.fromkeys(name.rpartition(".")[2] for name in names)
            raise ConfigError(f"sharing.targets: {target!r} matches no linear module; {nearest(target, accepted)}")
        yield from matches
