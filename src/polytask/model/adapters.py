"""Adapters of a layer that several parts share: low-rank deltas, bottleneck adapters.

One forward serves a batch that mixes parts: each linear module adds to every part's rows what is the part's own.
PEFT's layers refuse rows of several adapters while training, and would be needed to load a shipped model.
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
        sections: places of the parts whose rows follow one another, with their numbers of rows.
        no_grad_parts: places of the parts whose rows are read without a gradient.
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
        """Return a new part's own module: one that adds nothing yet."""

    @abstractmethod
    def delta(self, own: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return what a part adds, from what the linear module is given and what it makes."""

    @classmethod
    @abstractmethod
    def default_targets(cls, family: Family, names: Sequence[str]) -> list[str]:
        """Return the linear modules of a layer that get an adapter unless others are named."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return rows x tokens x size."""
        outputs = self.base(inputs)
        if not len(self.parts):
            return outputs
        counts = [count for _, count in self.sections]
        places = [place for place, _ in self.sections]
        added = [
            self.delta(self.parts[place], rows, out)
            for place, rows, out in zip(places, inputs.split(counts), outputs.split(counts), strict=True)
        ]
        if self.no_grad_parts:
            added = [
                own.detach() if place in self.no_grad_parts else own for place, own in zip(places, added, strict=True)
            ]
        return outputs + (added[0] if len(added) == 1 else torch.cat(added))

    def grow(self, count: int) -> None:
        """Make the parts' own modules."""
        self.parts = nn.ModuleList([self.make().to(self.base.weight.device) for _ in range(count)])

    def follow(self, sources: Sequence[Sequence[int]], origins: Origins) -> None:
        """Take the parts' modules over from older parts; from none where there was nothing to add to."""
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
        """The parameters that one more part adds."""
        with torch.device("meta"):  # to ask may not draw from the random numbers that training goes on with
            return size(self.make())

    @classmethod
    def insert(cls, layer: nn.Module, kind: PartKind, family: Family) -> list[Adapter]:
        """Replace the chosen linear modules of a layer. Raises ConfigError when a name matches none."""
        linear = [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
        usable = [name for name in linear if name.rpartition(".")[2] not in family.positional]
        names = _named(kind.targets, usable) if kind.targets else cls.default_targets(family, usable)
        made: list[Adapter] = []
        for name in dict.fromkeys(names):  # two targets may match one module
            above, _, last = name.rpartition(".")
            parent = layer.get_submodule(above)
            base = getattr(parent, last)
            adapter = cls(base, kind)
            setattr(parent, last, adapter)
            made.append(adapter)
        return made


class LoraAdapter(Adapter):
    """Adds alpha / rank x B A x, with B zero at first (Hu et al. 2021, section 4.1)."""

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
    """Adds a bottleneck with a skip around it after attention and feed-forward (Houlsby et al. 2019, section 2.1)."""

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
    """Yield the modules that targets name: by their own name, or by more of their path."""
    for target in targets:
        found = [name for name in names if f".{name}".endswith(f".{target}")]
        if not found:
            accepted = dict.fromkeys(name.rpartition(".")[2] for name in names)
            raise ConfigError(f"sharing.targets: {target!r} matches no linear module; {nearest(target, accepted)}")
        yield from found
