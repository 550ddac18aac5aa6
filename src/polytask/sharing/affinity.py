"""From affinity: the best tree for a measured task affinity matrix, before training, within a number of layer copies.

How well a group of tasks will train together is estimated from pairs, as in Fifty et al. 2021 (TAG, section 3.2): a
task gains the mean affinity of the other tasks in its group, and nothing alone. The best tree maximises the sum over
tasks and layers, as in branched multi-task networks (Vandenhende et al. 2019). Because it is a mean and not a sum,
tasks that help each other a lot are separated from those that help little, even if no task harms another.
"""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from heapq import nlargest
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from polytask.errors import ConfigError, nearest
from polytask.options import resolve
from polytask.sharing.plan import Plan, global_plan
from polytask.sharing.sharing import TreeOptions

# The search is exhaustive up to this many tasks; 8 tasks have 4,140 partitions, 9 have 21,147.
EXACT_TASKS = 8
# Beam width with more tasks: trees that are kept for each number of layer copies.
BEAM_WIDTH = 32
# Sums closer than this, in units of the largest affinity, differ by rounding only.
TIE = 1e-10

# Shape (tasks, tasks): row i, column j is how much task i helps task j.
Matrix: TypeAlias = NDArray[np.float64]
# A part as a bit mask of task indices, and the parts of a layer.
Bits: TypeAlias = int
Parts: TypeAlias = tuple[Bits, ...]


class FromAffinityOptions(TreeOptions):
    """The tree that fits measured affinities from a file best; the embeddings are always shared."""

    strategy: Literal["from_affinity"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    file: str = Field(
        description='JSON: {"tasks": [names], "affinity": matrix}, or "layers": {"1": matrix, ...} with one matrix for '
        "each layer; row i, column j is how much task i helps task j, negative if it harms"
    )
    max_layers: int | None = Field(
        default=None,
        ge=1,
        description="maximum total number of layer copies, counting every part of every layer; by default twice "
        "the number of encoder layers",
    )

    @field_validator("file")
    @classmethod
    def _file_is_relative_to_the_configuration(cls, value: str, info: ValidationInfo) -> str:
        base = (info.context or {}).get("base")
        return value if base is None else resolve(value, Path(base))

    def plan(self, tasks: Sequence[str], layers: int) -> Plan:
        budget = 2 * layers if self.max_layers is None else self.max_layers
        if budget < layers:
            raise ConfigError(
                f"sharing.max_layers: found {budget}; the encoder has {layers} layers, and each needs at least one copy"
            )
        affinity = read_affinity(Path(self.file), tasks, layers)
        return best_tree(tasks, layers, affinity_per_level=affinity, max_layers=budget)


def best_tree(tasks: Sequence[str], layers: int, *, affinity_per_level: Sequence[Matrix], max_layers: int) -> Plan:
    """Return the tree with the greatest sum of mean affinities; among equal ones, one with the fewest parts.

    The embeddings are one part: in small encoders they outweigh all layers. Up to 8 tasks the tree is optimal; with
    more, a beam search keeps the best 32 trees for each number of layer copies.

    Args:
        affinity_per_level: layers + 1 matrices of finite numbers; that of the embeddings is ignored.
        max_layers: maximum number of parts of all layers together, at least `layers`.

    >>> apart = np.array([[0, 1, -1], [1, 0, -1], [-1, -1, 0]])
    >>> print(best_tree(["a", "b", "c"], 2, affinity_per_level=[apart] * 3, max_layers=3).picture())
    layer 2  [a, b] [c]
    layer 1  [a, b,  c]
    """
    assert len(affinity_per_level) == layers + 1
    assert max_layers >= layers
    if layers == 0:
        return global_plan(tasks, 0)
    affinity = np.array(affinity_per_level[1:], dtype=np.float64)  # layers x tasks x tasks
    affinity[:, np.arange(len(tasks)), np.arange(len(tasks))] = 0
    affinity /= np.abs(affinity).max() or 1
    search = _best_of_all if len(tasks) <= EXACT_TASKS else _best_of_beam
    levels_as_bits = search(affinity, min(max_layers, layers * len(tasks)))
    levels = [tuple(frozenset(tasks[i] for i in members_of(part)) for part in level) for level in levels_as_bits]
    return Plan(tuple(tasks), ((frozenset(tasks),), *levels))


def members_of(part: Bits) -> list[int]:
    """Return the indices of the tasks of a part."""
    return [index for index in range(part.bit_length()) if part >> index & 1]


def _gain(affinity: Matrix, part: Bits) -> Matrix:
    """Return a part's contribution to the sum, in each layer."""
    members = members_of(part)
    inside = affinity[:, members][:, :, members]
    return inside.sum(axis=(1, 2)) / max(1, len(members) - 1)


def _best_of_all(affinity: Matrix, budget: int) -> list[Parts]:
    """Find the best tree by dynamic programming over layers, for every partition and number of copies."""
    layers, count, _ = affinity.shape
    partitions = sorted((p for p in _partitions(count) if len(p) <= budget - layers + 1), key=len)
    gain = cache(lambda part: _gain(affinity, part))
    gains = np.array([sum(gain(part) for part in parts) for parts in partitions])  # partitions x layers
    fine, coarse = _refinements(partitions, count)
    first = np.searchsorted(fine, np.arange(len(partitions) + 1))
    start = np.full((len(partitions), budget + 1), -np.inf)  # partitions x copies
    start[0, 0] = 0  # the embeddings are one part
    tables = [start]
    for layer in range(layers):
        # In blocks of columns: 8 tasks have 167,894 pairs of a partition and a refinement.
        blocks = np.array_split(tables[-1], budget // 32 + 1, axis=1)
        below = np.concatenate([np.maximum.reduceat(block[coarse], first[:-1]) for block in blocks], axis=1)
        table = np.full_like(start, -np.inf)
        for size, group in groupby(range(len(partitions)), key=lambda row: len(partitions[row])):
            rows = list(group)
            table[rows, size:] = below[rows, :-size] + gains[rows, layer, None]
        tables.append(table)
    copies = _first_best(tables[-1].max(axis=0))
    row = _first_best(tables[-1][:, copies])
    levels = [partitions[row]]
    for table in reversed(tables[1:-1]):
        copies -= len(levels[-1])
        coarser = coarse[first[row] : first[row + 1]]
        row = int(coarser[_first_best(table[coarser, copies])])
        levels.append(partitions[row])
    return levels[::-1]


def _first_best(sums: Matrix) -> int:
    return int(np.argmax(sums >= sums.max() - TIE))


def _partitions(count: int) -> list[Parts]:
    partitions: list[Parts] = [()]
    for bit in (1 << index for index in range(count)):
        joined = [(*parts[:i], parts[i] | bit, *parts[i + 1 :]) for parts in partitions for i in range(len(parts))]
        partitions = joined + [(*parts, bit) for parts in partitions]
    return partitions


def _refinements(partitions: Sequence[Parts], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return all pairs of a partition and a coarser or equal one, sorted by the first."""
    part_of = np.array([[next(part for part in parts if part >> i & 1) for i in range(count)] for parts in partitions])
    left, right = np.triu_indices(count, 1)
    together = (part_of[:, left] == part_of[:, right]).astype(np.float32)  # partitions x pairs of tasks
    fine, coarse = np.nonzero(together @ together.T == together.sum(axis=1)[:, None])
    return fine, coarse


class _Tree(NamedTuple):
    """A tree; the layers above the last split are all the same as that layer."""

    total: float
    copies: int
    top: Parts
    cuts: tuple[tuple[int, Parts], ...]  # layers, from 0, and the partition of each and of those above it


def _best_of_beam(affinity: Matrix, budget: int) -> list[Parts]:
    """Search from the bottom to the top: split parts of a layer, and of all above it, once or several times."""
    layers, count, _ = affinity.shape
    upward = affinity[::-1].cumsum(axis=0)[::-1]  # sum over a layer and all above it
    gain = cache(lambda part: _gain(upward, part))
    cuts = cache(lambda part, layer: linkage_cuts(upward[layer], part))

    def split(tree: _Tree, layer: int) -> Iterable[_Tree]:
        for part in tree.top:
            for piece in cuts(part, layer):
                rest = part ^ piece
                change = float((gain(piece) + gain(rest) - gain(part))[layer])
                top = tuple(sorted({*tree.top, piece, rest} - {part}))
                yield _Tree(tree.total + change, tree.copies + layers - layer, top, (*tree.cuts, (layer, top)))

    everything: Parts = ((1 << count) - 1,)
    beam = [_Tree(float(gain(everything[0])[0]), layers, everything, ((0, everything),))]
    for layer in range(layers):
        fresh = beam
        while fresh := [tree for tree in fresh if tree.copies + layers - layer <= budget]:
            known = set(beam)
            beam = _keep(beam + [other for tree in fresh for other in split(tree, layer)])
            fresh = [tree for tree in beam if tree not in known]
    best = max(tree.total for tree in beam)
    tree = min((tree for tree in beam if tree.total >= best - TIE), key=lambda tree: tree.copies)
    levels = dict(tree.cuts)
    return [levels[max(lower for lower in levels if lower <= layer)] for layer in range(layers)]


def _keep(trees: Iterable[_Tree]) -> list[_Tree]:
    """Keep the best trees for each number of copies, so that trees that split only in higher layers survive."""
    best: dict[int, dict[Parts, _Tree]] = {}
    for tree in trees:
        same_copies = best.setdefault(tree.copies, {})
        if tree.top not in same_copies or same_copies[tree.top].total < tree.total:
            same_copies[tree.top] = tree
    return [
        tree
        for same_copies in best.values()
        for tree in nlargest(BEAM_WIDTH, same_copies.values(), key=lambda tree: tree.total)
    ]


def linkage_cuts(affinity: Matrix, part: Bits) -> set[Bits]:
    """Return one side of every candidate cut: an average-linkage cluster, or a single task, against the rest."""
    members = members_of(part)
    clusters = [1 << index for index in members]
    candidates = list(clusters)
    sums = (affinity + affinity.T)[np.ix_(members, members)]
    counts = np.ones(len(members))
    while len(clusters) > 2:
        means = sums / np.outer(counts, counts)
        np.fill_diagonal(means, -np.inf)
        left, right = divmod(int(means.argmax()), len(clusters))  # left < right: the matrix is symmetric
        sums[left] += sums[right]
        sums[:, left] += sums[:, right]
        counts[left] += counts[right]
        sums = np.delete(np.delete(sums, right, axis=0), right, axis=1)
        counts = np.delete(counts, right)
        clusters[left] |= clusters.pop(right)
        candidates.append(clusters[left])
    return {min(cluster, part ^ cluster) for cluster in candidates if cluster != part}


def read_affinity(path: Path, tasks: Sequence[str], layers: int) -> list[Matrix]:
    """Read the matrices of these tasks for the embeddings and every layer. Raises ConfigError naming the place."""
    place = f"sharing.file: {path}"
    data = _read_json(path, place)
    if not isinstance(data, dict) or set(data) not in ({"tasks", "affinity"}, {"tasks", "layers"}):
        found = f"the keys {', '.join(data) or 'none'}" if isinstance(data, dict) else _kind(data)
        raise ConfigError(
            f"{place}: found {found}; expected an object with tasks and affinity (one matrix), or tasks and layers "
            "(one matrix for each layer)"
        )
    names = _read_names(data["tasks"], tasks, f"{place}: tasks")
    kept = np.ix_([names.index(task) for task in tasks], [names.index(task) for task in tasks])
    if "affinity" in data:
        return [_read_matrix(data["affinity"], names, f"{place}: affinity")[kept]] * (layers + 1)
    table = _read_table(data["layers"], layers, f"{place}: layers")
    matrices = {key: _read_matrix(value, names, f"{place}: layers.{key}")[kept] for key, value in table.items()}
    numbered = [matrices[str(number)] for number in range(1, layers + 1)]
    return [matrices["embeddings"] if "embeddings" in matrices else numbered[0], *numbered]


def _read_json(path: Path, place: str) -> Any:  # noqa: ANN401
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        siblings = [item.name for item in path.parent.glob("*.json")]
        raise ConfigError(
            f"{place}: no such file; write it, or correct the path ({nearest(path.name, siblings)})"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: cannot be read ({error})") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: is not JSON ({error}); expected an object with tasks and affinity") from None


def _read_names(value: Any, tasks: Sequence[str], place: str) -> list[str]:  # noqa: ANN401
    if not isinstance(value, list):
        raise ConfigError(f"{place}: found {_kind(value)}; expected a list of names")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(f"{place}: found a list that holds {_kind(name)}; expected a list of names")
        if value.count(name) > 1:
            raise ConfigError(f"{place}: {name!r} is listed twice; a task has one row")
    for task in tasks:
        if task not in value:
            raise ConfigError(
                f"{place}: the configuration's {task!r} is not listed; add its row and column, or name "
                f"it as in the configuration; {nearest(task, value)}"
            )
    return value


def _read_table(value: Any, layers: int, place: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise ConfigError(f'{place}: found {_kind(value)}; expected an object: {{"1": matrix, "2": matrix, ...}}')
    needed = [str(number) for number in range(1, layers + 1)] or ["embeddings"]
    for key in value:
        if key not in ("embeddings", *needed):
            raise ConfigError(
                f"{place}: found {key!r}; the encoder has {layers} layers, accepted: embeddings, 1 to {layers}"
            )
    if missing := [key for key in needed if key not in value]:
        listed = ", ".join(missing)
        raise ConfigError(f"{place}: layers without a matrix: {listed}; the encoder has {layers} layers, add them")
    return value


def _read_matrix(value: Any, names: Sequence[str], place: str) -> Matrix:  # noqa: ANN401
    if not isinstance(value, list) or len(value) != len(names):
        found = f"{len(value)} rows" if isinstance(value, list) else _kind(value)
        raise ConfigError(f"{place}: found {found}; expected {len(names)} rows, one for each task of the file")
    matrix = np.zeros((len(names), len(names)))
    for i, row in enumerate(value):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} numbers" if isinstance(row, list) else _kind(row)
            raise ConfigError(
                f"{place}[{i}]: found {found}; expected {len(names)} numbers, one for each task of the file"
            )
        for j, number in enumerate(row):
            if i == j:
                continue
            # The comparison is false for nan, and exact for integers that no float holds.
            if isinstance(number, bool | str | list | dict | None) or not abs(number) <= sys.float_info.max:
                raise ConfigError(
                    f"{place}[{i}][{j}]: found {_kind(number)}; expected a finite number, how much {names[i]!r} helps "
                    f"{names[j]!r} (negative: harms)"
                )
            matrix[i, j] = number
    return matrix


def _kind(value: Any) -> str:  # noqa: ANN401
    names = {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value)) or reprlib.repr(value)
