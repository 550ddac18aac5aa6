"""Small additions to a layer that several parts share: low-rank deltas, bottleneck adapters.

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
from polytask.model.slot import Origins, divided, size
from polytask.sharing.sharing import Kind


class Addition(nn.Module, ABC):
    """A linear module with an addition for each part.

    Attributes:
        sections: places of the parts whose rows follow one another, with their numbers of rows.
        silent: places of the parts whose rows are read without a gradient.
    """

    def __init__(self, base: nn.Linear, kind: Kind) -> None:
        super().__init__()
        self.base = base
        self.kind = kind
        self.parts = nn.ModuleList()
        self.sections: tuple[tuple[int, int], ...] = ()
        self.silent: frozenset[int] = frozenset()

    @abstractmethod
    def make(self) -> nn.Module:
        """Return a new part's own module: one that adds nothing yet."""

    @abstractmethod
    def add(self, own: nn.Module, given: Tensor, made: Tensor) -> Tensor:
        """Return what a part adds, from what the linear module is given and what it makes."""

    @classmethod
    @abstractmethod
    def chosen(cls, family: Family, names: Sequence[str]) -> list[str]:
        """Return the linear modules of a layer that get an addition unless others are named."""

    def forward(self, given: Tensor) -> Tensor:
        """Return rows x tokens x size."""
        made = self.base(given)
        if not len(self.parts):
            return made
        counts = [count for _, count in self.sections]
        places = [place for place, _ in self.sections]
        added = [
            self.add(self.parts[place], rows, out)
            for place, rows, out in zip(places, given.split(counts), made.split(counts), strict=True)
        ]
        if self.silent:
            added = [own.detach() if place in self.silent else own for place, own in zip(places, added, strict=True)]
        return made + (added[0] if len(added) == 1 else torch.cat(added))

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
    def into(cls, layer: nn.Module, kind: Kind, family: Family) -> list[Addition]:
        """Replace the chosen linear modules of a layer. Raises ConfigError when a name matches none."""
        linear = [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
        usable = [name for name in linear if name.rpartition(".")[2] not in family.positional]
        names = _named(kind.targets, usable) if kind.targets else cls.chosen(family, usable)
        made: list[Addition] = []
        for name in dict.fromkeys(names):  # two targets may match one module
            above, _, last = name.rpartition(".")
            parent = layer.get_submodule(above)
            base = getattr(parent, last)
            addition = cls(base, kind)
            setattr(parent, last, addition)
            made.append(addition)
        return made


class Lora(Addition):
    """Adds alpha / rank x B A x, with B zero at first (Hu et al. 2021, section 4.1)."""

    def make(self) -> nn.Module:
        down = nn.Linear(self.base.in_features, self.kind.rank, bias=False)
        up = nn.Linear(self.kind.rank, self.base.out_features, bias=False)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        return nn.Sequential(down, up)

    def add(self, own: nn.Module, given: Tensor, made: Tensor) -> Tensor:
        del made
        return own(given) * (self.kind.alpha / self.kind.rank)

    @classmethod
    def chosen(cls, family: Family, names: Sequence[str]) -> list[str]:
        del family
        return list(names)


class Houlsby(Addition):
    """Adds a bottleneck with a skip around it after attention and feed-forward (Houlsby et al. 2019, section 2.1)."""

    def make(self) -> nn.Module:
        down = nn.Linear(self.base.out_features, self.kind.rank)
        up = nn.Linear(self.kind.rank, self.base.out_features)
        nn.init.normal_(down.weight, std=0.02)
        nn.init.zeros_(down.bias)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        return nn.ModuleList([down, up])

    def add(self, own: nn.Module, given: Tensor, made: Tensor) -> Tensor:
        del given
        assert isinstance(own, nn.ModuleList)
        return own[1](F.gelu(own[0](made)))

    @classmethod
    def chosen(cls, family: Family, names: Sequence[str]) -> list[str]:
        return list(_named(family.outputs, names))


ADDITIONS: dict[str, type[Addition]] = {"lora": Lora, "houlsby": Houlsby}


def _named(targets: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the modules that targets name: by their own name, or by more of their path."""
    for target in targets:
        found = [name for name in names if f".{name}".endswith(f".{target}")]
        if not found:
            accepted = dict.fromkeys(name.rpartition(".")[2] for name in names)
            raise ConfigError(f"sharing.targets: {target!r} matches no linear module; {nearest(target, accepted)}")
        yield from found
