"""Rows of one split with equal texts and different labels: no model can get all of them right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polytask.data.data_warnings import Finding
from polytask.data.rows import DataTable
from polytask.tasks import TASKS
from polytask.terms import Split


def contradictions(split: Split, table: DataTable) -> Iterator[Finding]:
    """Yield findings of rows whose text has another label in another row, for tasks with one class or level per row.

    Texts count as equal if they differ in case and white space only.
    """
    data = table.rows.data
    hashes = data.column("fingerprint").to_numpy()
    alone = data.column("companion_of").is_null().to_numpy()
    for name, options in table.feed.tasks.items():
        if TASKS.of(options).label_type != "string":
            continue
        column = data.column(f"label.{name}").combine_chunks()
        codes = column.dictionary_encode().indices.fill_null(-1).to_numpy()
        labelled = alone & (codes >= 0)
        order = np.flatnonzero(labelled)[np.lexsort((codes[labelled], hashes[labelled]))]
        same_text = hashes[order][1:] == hashes[order][:-1]
        differing = same_text & (codes[order][1:] != codes[order][:-1])
        if not differing.any():
            continue
        concerned = labelled & np.isin(hashes, hashes[order][1:][differing])
        first = int(np.argmax(concerned))
        other = int(np.argmax(concerned & (hashes == hashes[first]) & (codes != codes[first])))
        yield Finding(
            split, name,
            "{count} rows have the text of a row with another label, such as those at {first}; no model can get all of "
            "them right: correct the labels, leave such rows out, or, if a text can have several labels, write them in "
            "one cell and use `type: multilabel`",
            f"{int(concerned.sum())} of {int(labelled.sum())}",
            " and ".join(table.rows[row]["place"] for row in (first, other)),
        )  # fmt: skip
