"""The candidates: ways to share, to balance and to mix the tasks, the likeliest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.config import Config, validate, values_of

# What a configuration says of these is a candidate of its own.
SECTIONS = ("sharing", "balance", "schedule")
# Sizes that differ less are alike.
UNEQUAL = 1.5


@dataclass(frozen=True)
class Candidate:
    """One way to train the tasks together.

    Attributes:
        name: global and config as in a comparison; the others say what they change.
        changes: sections of the configuration in place of its own.
    """

    name: str
    changes: Mapping[str, Mapping[str, Any]]

    def config(self, config: Config, train: Mapping[str, Any]) -> Config:
        """Return its configuration with some training options. Raises ConfigError where it cannot be."""
        values = values_of(config)
        return validate({**values, **self.changes, "train": {**values.get("train", {}), **train}})

    def overrides(self) -> list[str]:
        """Return its changes as `--set` takes them."""
        return [
            f"{section}.{key}={value}" for section, options in self.changes.items() for key, value in options.items()
        ]


def candidates(
    config: Config, layers: int, sizes: Mapping[str, int], groups: Sequence[Sequence[str]] = ()
) -> list[Candidate]:
    """Return the candidates for a configuration, those that pay on most tasks first.

    Args:
        layers: of the encoder.
        sizes: training rows by task.
        groups: of related tasks, as they were measured; none where nothing was.
    """
    found: list[Candidate] = []
    seen: set[str] = set()
    for candidate in _all(config, layers, sizes, groups):
        key = str({**{name: values_of(config).get(name) for name in SECTIONS}, **candidate.changes})
        if key not in seen:
            seen.add(key)
            found.append(candidate)
    return found


def _all(config: Config, layers: int, sizes: Mapping[str, int], groups: Sequence[Sequence[str]]) -> Iterator[Candidate]:
    said = {name: getattr(config, name) for name in SECTIONS if name in config.model_fields_set}
    shared_heads = config.sharing.share_heads

    def sharing(name: str, heads: Sequence[Sequence[str]] = shared_heads, **options: Any) -> Candidate:  # noqa: ANN401
        shared = {"share_heads": [list(group) for group in heads]} if heads else {}
        return Candidate(name, {"sharing": {**options, **shared}})

    if said:
        yield Candidate("config", {})
    yield sharing("global", strategy="global")
    if shared_heads:
        yield sharing("own_heads", (), strategy="global")
    for shared in dict.fromkeys((layers - max(1, layers // 3), layers // 2)):
        yield sharing(f"partial_{shared}", strategy="partial", shared_layers=shared)
    for name, divided in (("groups", groups), ("by_size", supported(sizes))):
        if 1 < len(divided) < len(sizes):
            branch = {"from_layer": 1, "groups": [list(group) for group in divided]}
            yield sharing(name, heads_within(divided, shared_heads), strategy="partial", branches=[branch])
    for method in ("sum", "aligned_mtl"):
        yield Candidate(f"global_{method}", {**sharing("", strategy="global").changes, "balance": {"method": method}})
    if max(sizes.values()) >= UNEQUAL * min(sizes.values()):
        uniform = {"strategy": "parallel", "proportions": "uniform"}
        yield Candidate("global_uniform", {**sharing("", strategy="global").changes, "schedule": uniform})


def heads_within(groups: Sequence[Sequence[str]], shared_heads: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the heads that tasks still share where only tasks of one group do.

    >>> heads_within([["a", "b"], ["c"]], [["a", "b", "c"]])
    [['a', 'b']]
    """
    parts = [[task for task in head if task in group] for head in shared_heads for group in groups]
    return [part for part in parts if len(part) > 1]


def supported(sizes: Mapping[str, int]) -> list[list[str]]:
    """Return groups in which the largest task supports those that are clearly smaller; the others stand alone.

    A target gains from a supporter with more rows than it has itself, and rarely otherwise (Weller et al. 2022,
    "When to Use Multi-Task Learning vs Intermediate Fine-Tuning for Pre-Trained Encoder Transfer Learning").

    >>> supported({"a": 2000, "b": 500, "c": 1900})
    [['a', 'b'], ['c']]
    """
    largest = max(sizes, key=lambda task: sizes[task])
    joined = [task for task, rows in sizes.items() if task == largest or UNEQUAL * rows <= sizes[largest]]
    return [joined, *([task] for task in sizes if task not in joined)]
