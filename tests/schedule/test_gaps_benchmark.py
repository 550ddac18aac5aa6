"""What the benchmark of empty cells counts."""

from __future__ import annotations

import pytest
from benchmarks.gaps import VARIANTS, half_empty, passes_a_label


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_passes_once_for_all_of_its_labels_where_nothing_else_is_asked_for(name: str) -> None:
    source = half_empty(400, 0.5)
    passed, _ = passes_a_label(source, VARIANTS[name], batch_size=16, epochs=2)
    carried = [set(source.carries[task].tolist()) for task in source.tasks]
    least = len(set.union(*carried)) / sum(map(len, carried))
    assert least - 0.02 <= passed <= 1
    if name == "proportional":
        assert passed == pytest.approx(least, rel=0.02)
