"""The tree from measured affinities: no other tree within the budget fits better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from polytask.errors import ConfigError
from polytask.sharing import affinity
from polytask.sharing.affinity import FromAffinityOptions, best_tree
from polytask.sharing.plan import Partition, Plan, global_plan, independent_plan

Matrix = NDArray[np.float64]


def parts(*groups: str) -> Partition:
    """Return a partition of tasks named by single letters."""
    return tuple(frozenset(group) for group in groups)


def best(tasks: str, matrices: Sequence[Matrix], budget: int) -> Plan:
    """Return the best tree; one matrix a layer."""
    return best_tree(tasks, len(matrices), affinity_per_level=[matrices[0], *matrices], max_layers=budget)


def fit(tasks: str, level: Partition, matrix: Matrix) -> float:
    """What one layer adds to the sum, as the docstring says it."""
    place = {task: index for index, task in enumerate(tasks)}
    gained = 0.0
    for part in level:
        for task in part:
            helped = [matrix[place[other], place[task]] for other in part if other != task]
            gained += float(np.mean(helped)) if helped else 0.0
    return gained


def total(plan: Plan, matrices: Sequence[Matrix]) -> float:
    """Sum over all layers."""
    return sum(fit("".join(plan.tasks), level, matrix) for level, matrix in zip(plan.levels[1:], matrices, strict=True))


def copies(plan: Plan) -> int:
    """Count the parts of all layers."""
    return sum(len(level) for level in plan.levels[1:])


def divisions(tasks: str) -> list[Partition]:
    """List all partitions, by the part of the first task."""
    if not tasks:
        return [()]
    first, rest = tasks[0], tasks[1:]
    found: list[Partition] = []
    for size in range(len(rest) + 1):
        for companions in combinations(rest, size):
            left = "".join(task for task in rest if task not in companions)
            found.extend((frozenset([first, *companions]), *others) for others in divisions(left))
    return found


@cache
def trees(tasks: str, layers: int) -> list[tuple[Partition, ...]]:
    """List all trees above shared embeddings."""
    found: list[tuple[Partition, ...]] = [()]
    for _ in range(layers):
        found = [
            (*tree, level)
            for tree in found
            for level in divisions(tasks)
            if all(any(part <= other for other in (tree[-1] if tree else parts(tasks))) for part in level)
        ]
    return found


def blocks(*sizes: int) -> Matrix:
    """Tasks help those of their block and harm all others."""
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    return np.where(block_of[:, None] == block_of[None, :], 1.0, -1.0)


def noise(count: int, layers: int, seed: int) -> list[Matrix]:
    """Affinities without a pattern, and without ties."""
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(count, count)) for _ in range(layers)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[str, list[Matrix], int]:
    """Small problems, with many ties."""
    count, layers = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    cells = st.lists(st.integers(-3, 3), min_size=count * count, max_size=count * count)
    matrices = [np.array(draw(cells), dtype=np.float64).reshape(count, count) for _ in range(layers)]
    return "abcd"[:count], matrices, draw(st.integers(layers, layers * count + 1))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_no_tree_within_the_budget_fits_better_and_none_as_good_has_fewer_parts(
    problem: tuple[str, list[Matrix], int],
) -> None:
    tasks, matrices, budget = problem
    fits = [{level: fit(tasks, level, matrix) for level in divisions(tasks)} for matrix in matrices]
    sums = {
        tree: sum(of[level] for of, level in zip(fits, tree, strict=True))
        for tree in trees(tasks, len(matrices))
        if sum(map(len, tree)) <= budget
    }
    plan = best(tasks, matrices, budget)
    greatest = max(sums.values())
    assert total(plan, matrices) == pytest.approx(greatest, abs=1e-9)
    assert copies(plan) == min(sum(map(len, tree)) for tree, found in sums.items() if found > greatest - 1e-9)
    assert plan.trunks == parts(tasks)


@pytest.mark.parametrize(("count", "exact"), [(5, True), (8, True), (10, False)])
def test_the_budget_is_kept_and_a_greater_one_never_fits_worse(count: int, exact: bool) -> None:
    assert (count <= affinity.EXACT_TASKS) == exact
    layers = 4
    matrices = noise(count, layers, seed=count)
    found = [best("abcdefghij"[:count], matrices, budget) for budget in (4, 5, 7, 8, 12, 4 * count, 5 * count)]
    assert [copies(plan) for plan in found[:5]] == [4, 5, 7, 8, 12]
    sums = [total(plan, matrices) for plan in found]
    assert sums == sorted(sums)
    assert found[-1] == found[-2]


def test_the_smallest_budget_shares_everything() -> None:
    assert best("abcd", [-np.ones((4, 4))] * 6, 6) == global_plan("abcd", 6)


def test_equal_help_between_all_tasks_shares_everything() -> None:
    assert best("abcd", [np.ones((4, 4))] * 3, 12) == global_plan("abcd", 3)
    assert best("abcd", [np.full((4, 4), 0.1)] * 3, 12) == global_plan("abcd", 3)
    assert best("abcdefghij", [np.full((10, 10), 0.1)] * 3, 30) == global_plan("abcdefghij", 3)


def test_tasks_that_harm_each_other_share_only_the_embeddings() -> None:
    own = tuple(frozenset(task) for task in "abcd")
    assert best("abcd", [-np.ones((4, 4))] * 3, 12).levels == (parts("abcd"), own, own, own)


def test_a_strong_pair_leaves_weak_help_behind() -> None:
    helps = np.full((3, 3), 0.1)
    helps[0, 1] = helps[1, 0] = 1.0
    assert best("abc", [helps], 3).levels[1] == parts("ab", "c")


def test_help_counts_for_the_task_of_its_column() -> None:
    helps = np.zeros((3, 3))
    helps[0, 1] = 1.0  # a helps b
    helps[0, 2] = -1.0  # and harms c
    helps[2, 0] = 0.5  # c helps a
    plan = best("abc", [helps], 3)
    assert plan.levels[1] == parts("ab", "c")
    assert total(plan, [helps]) == 1.0
    assert best("abc", [helps.T], 3).levels[1] == parts("ab", "c")


def test_two_blocks_are_the_parts_of_all_layers_where_the_budget_allows() -> None:
    assert best("abcde", [blocks(2, 3)] * 4, 8).levels == (parts("abcde"), *[parts("ab", "cde")] * 4)
    assert best("abcde", [blocks(2, 3)] * 4, 20).levels == (parts("abcde"), *[parts("ab", "cde")] * 4)


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
def test_a_tight_budget_divides_the_upper_layers(extra: int) -> None:
    plan = best("abcde", [blocks(2, 3)] * 4, 4 + extra)
    assert plan.levels == (parts("abcde"), *[parts("abcde")] * (4 - extra), *[parts("ab", "cde")] * extra)


def test_each_layer_is_divided_by_its_own_affinities() -> None:
    agree, conflict, nothing = np.ones((4, 4)), blocks(2, 2), -np.ones((4, 4))
    plan = best("abcd", [agree, agree, conflict, nothing], 16)
    assert plan.levels == (parts("abcd"), parts("abcd"), parts("abcd"), parts("ab", "cd"), parts("a", "b", "c", "d"))


def test_affinities_of_the_embeddings_divide_nothing() -> None:
    layers = [np.ones((3, 3))] * 2
    plan = best_tree("abc", 2, affinity_per_level=[-np.ones((3, 3)), *layers], max_layers=6)
    assert plan == global_plan("abc", 2)


def test_one_task_and_an_encoder_without_layers_have_one_tree() -> None:
    assert best("a", [np.ones((1, 1))] * 3, 9) == independent_plan("a", 3)
    assert best_tree("abc", 0, affinity_per_level=[-np.ones((3, 3))], max_layers=1) == global_plan("abc", 0)


def test_the_unit_of_the_affinities_changes_nothing() -> None:
    matrices = noise(4, 3, seed=1)
    with np.errstate(all="raise", under="ignore"):
        found = {best("abcd", [matrix * unit for matrix in matrices], 7) for unit in (1.0, 1e-300, 2.0**1020)}
    assert len(found) == 1


@pytest.mark.parametrize("count", [5, 10])
def test_the_order_of_the_tasks_changes_nothing_but_the_order(count: int) -> None:
    matrices = noise(count, 3, seed=3)
    order = np.random.default_rng(0).permutation(count)
    tasks = "abcdefghij"[:count]
    plan = best(tasks, matrices, 8)
    other = best("".join(tasks[i] for i in order), [matrix[np.ix_(order, order)] for matrix in matrices], 8)
    assert [set(level) for level in other.levels] == [set(level) for level in plan.levels]


def planted(deviation: float) -> tuple[str, Matrix]:
    """Hide the blocks abcd, efg and hij among ten tasks in no order."""
    draw = np.random.default_rng(0)
    hidden, order = blocks(4, 3, 3) + draw.normal(scale=deviation, size=(10, 10)), draw.permutation(10)
    return "".join("abcdefghij"[i] for i in order), hidden[np.ix_(order, order)]


@pytest.mark.parametrize(("deviation", "budget"), [(0, 18), (0, 60), (0.05, 18), (0.3, 18)])
def test_the_beam_finds_planted_blocks_among_ten_tasks(deviation: float, budget: int) -> None:
    tasks, matrix = planted(deviation)
    plan = best(tasks, [matrix] * 6, budget)
    assert all(set(level) == set(parts("abcd", "efg", "hij")) for level in plan.levels[1:])


@pytest.mark.parametrize("budget", range(6, 18))
def test_the_beam_tears_no_block_apart_under_a_tight_budget(budget: int) -> None:
    tasks, matrix = planted(0.05)
    plan = best(tasks, [matrix] * 6, budget)
    assert copies(plan) == budget
    assert all(any(block <= part for part in plan.levels[-1]) for block in parts("abcd", "efg", "hij"))


@pytest.mark.parametrize("seed", range(6))
def test_the_beam_comes_close_to_the_best_tree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = noise(6, 4, seed)
    exact = best("abcdef", matrices, 10)
    monkeypatch.setattr(affinity, "EXACT_TASKS", 0)
    beam = best("abcdef", matrices, 10)
    assert copies(beam) <= 10
    assert 0.9 * total(exact, matrices) <= total(beam, matrices) <= total(exact, matrices) + 1e-9


# The file.


def options(folder: Path, content: Any, **more: Any) -> FromAffinityOptions:
    """Write a file and return the options that name it, relative to the configuration's folder."""
    (folder / "affinity.json").write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    values = {"strategy": "from_affinity", "file": "affinity.json", **more}
    return FromAffinityOptions.model_validate(values, context={"base": str(folder)})


def test_a_file_with_one_matrix_is_used_for_every_layer(tmp_path: Path) -> None:
    content = {"tasks": list("abcd"), "affinity": blocks(2, 2).tolist()}
    plan = options(tmp_path, content).plan("abcd", 3)
    assert plan.levels == (parts("abcd"), *[parts("ab", "cd")] * 3)


def test_the_default_budget_is_twice_the_layers(tmp_path: Path) -> None:
    content = {"tasks": list("abcd"), "affinity": (-np.ones((4, 4))).tolist()}
    assert copies(options(tmp_path, content).plan("abcd", 3)) == 6
    assert copies(options(tmp_path, content, max_layers=9).plan("abcd", 3)) == 9


def test_a_file_with_a_matrix_for_each_layer_may_leave_out_the_embeddings(tmp_path: Path) -> None:
    layers = {"2": blocks(1, 2).tolist(), "1": np.ones((3, 3)).tolist()}
    expected = (parts("abc"), parts("abc"), parts("a", "bc"))
    assert options(tmp_path, {"tasks": list("abc"), "layers": layers}).plan("abc", 2).levels == expected
    layers["embeddings"] = blocks(1, 2).tolist()
    assert options(tmp_path, {"tasks": list("abc"), "layers": layers}).plan("abc", 2).levels == expected


def test_tasks_that_the_configuration_does_not_have_are_left_out_and_the_order_is_free(tmp_path: Path) -> None:
    content = {"tasks": list("cxab"), "affinity": blocks(1, 1, 2).tolist()}
    assert options(tmp_path, content).plan("abc", 2).levels == (parts("abc"), *[parts("ab", "c")] * 2)


def test_the_diagonal_may_hold_anything(tmp_path: Path) -> None:
    plan = options(tmp_path, '{"tasks": ["a", "b"], "affinity": [[null, -1], [-1, NaN]]}').plan("ab", 1)
    assert plan.levels == (parts("ab"), parts("a", "b"))


def test_the_path_is_relative_to_the_configuration_or_left_as_it_is(tmp_path: Path) -> None:
    assert options(tmp_path, "{}").file == str((tmp_path / "affinity.json").resolve())
    assert FromAffinityOptions(strategy="from_affinity", file="affinity.json").file == "affinity.json"


PAIR = '{"tasks": ["a", "b"], "affinity": %s}'
TABLE = '{"tasks": ["a", "b"], "layers": %s}'
SQUARE = "[[0, 1], [1, 0]]"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{tasks", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "),
        ("[" * 100_000, "is not JSON ("),
        (
            "[]",
            "found a list; expected an object with tasks and affinity (one matrix), or tasks and layers (one matrix",
        ),
        ("{}", "found the keys none; expected an object"),
        ('{"tasks": [], "afinity": []}', "found the keys tasks, afinity; expected an object with tasks and affinity"),
        ('{"tasks": [], "affinity": [], "layers": {}}', "found the keys tasks, affinity, layers; expected"),
        ('{"tasks": "ab", "affinity": []}', "tasks: found 'ab'; expected a list of names"),
        ('{"tasks": [1], "affinity": []}', "tasks: found a list that holds 1; expected a list of names"),
        ('{"tasks": ["a", "b", "a"], "affinity": []}', "tasks: 'a' is listed twice; a task has one row"),
        (
            '{"tasks": ["B", "c", "a"], "affinity": []}',
            "tasks: the configuration's 'b' is not listed; add its row and column, or name it as in the configuration; "
            "accepted: B, a, c; did you mean 'B'?",
        ),
        (PAIR % "1", "affinity: found 1; expected 2 rows, one for each task of the file"),
        (PAIR % "[[0, 1]]", "affinity: found 1 rows; expected 2 rows, one for each task of the file"),
        (PAIR % "[[0, 1], 7]", "affinity[1]: found 7; expected 2 numbers, one for each task of the file"),
        (PAIR % "[[0, 1], [1, 0, 1]]", "affinity[1]: found 3 numbers; expected 2 numbers, one for each task"),
        (
            PAIR % '[[0, "1"], [1, 0]]',
            "affinity[0][1]: found '1'; expected a finite number, how much 'a' helps 'b' (negative: harms)",
        ),
        (PAIR % "[[0, 1], [true, 0]]", "affinity[1][0]: found True; expected a finite number, how much 'b' helps 'a'"),
        (PAIR % "[[0, null], [1, 0]]", "affinity[0][1]: found null; expected a finite number"),
        (PAIR % "[[0, [1]], [1, 0]]", "affinity[0][1]: found a list; expected a finite number"),
        (PAIR % "[[0, NaN], [1, 0]]", "affinity[0][1]: found nan; expected a finite number"),
        (PAIR % "[[0, -1e999], [1, 0]]", "affinity[0][1]: found -inf; expected a finite number"),
        (PAIR % f"[[0, 1{'0' * 400}], [1, 0]]", "affinity[0][1]: found 1000"),
        (TABLE % "[]", 'layers: found a list; expected an object: {"1": matrix, "2": matrix, ...}'),
        (TABLE % f'{{"3": {SQUARE}}}', "layers: found '3'; the encoder has 2 layers, accepted: embeddings, 1 to 2"),
        (TABLE % f'{{"1-2": {SQUARE}}}', "layers: found '1-2'; the encoder has 2 layers, accepted: embeddings, 1 to 2"),
        (TABLE % f'{{"2": {SQUARE}}}', "layers: layers without a matrix: 1; the encoder has 2 layers, add them"),
        (TABLE % f'{{"embeddings": {SQUARE}}}', "layers: layers without a matrix: 1, 2; the encoder has 2 layers"),
        (TABLE % f'{{"1": {SQUARE}, "2": [[0, 1], [1]]}}', "layers.2[1]: found 1 numbers; expected 2 numbers"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    found = options(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        found.plan("ab", 2)
    assert str(error.value).startswith(f"sharing.file: {found.file}: {message}")


def test_a_missing_file_is_named_with_those_beside_it(tmp_path: Path) -> None:
    found = options(tmp_path, "{}", file="afinity.json")
    with pytest.raises(ConfigError) as error:
        found.plan("ab", 2)
    assert str(error.value) == (
        f"sharing.file: {found.file}: no such file; write it, or correct the path "
        "(accepted: affinity.json; did you mean 'affinity.json'?)"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        options(tmp_path, "{}", file=".").plan("ab", 2)
    assert str(error.value).startswith(f"sharing.file: {tmp_path.resolve()}: cannot be read (")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.json: cannot be read \('utf-8' codec"):
        options(tmp_path, "{}", file="binary.json").plan("ab", 2)


def test_a_budget_below_one_copy_a_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        options(tmp_path, "{}", max_layers=4).plan("ab", 6)
    assert str(error.value) == (
        "sharing.max_layers: found 4; the encoder has 6 layers, and each needs at least one copy"
    )
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        options(tmp_path, "{}", max_layers=0)
