"""Run the code cells of a notebook and store what they print and show, without Jupyter.

python examples/run_notebook.py examples/dataframes.ipynb
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run(notebook: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> list[list[dict[str, Any]]]:
    """Run the code cells one after another in one namespace, and return the outputs of each.

    Args:
        given: values that take the place of those of the cell that is tagged `parameters`.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    found: list[list[dict[str, Any]]] = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        found.append(_run_cell("".join(cell["source"]), f"cell {number}", namespace, number))
        if "parameters" in cell["metadata"].get("tags", []):
            namespace.update(given or {})
    return found


def code_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def digest(notebook: Mapping[str, Any]) -> str:
    """Return a hash of the code, which tells whether stored outputs are of it."""
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def _run_cell(source: str, name: str, namespace: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run one cell: what it prints is a stream, and the value of a last expression is its result."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), namespace)
        value = None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    text = printed.getvalue()
    outputs: list[dict[str, Any]] = []
    if text:
        outputs.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
    if value is not None:
        shown = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = _lines(value._repr_html_())
        outputs.append({"data": shown, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(path: Path) -> None:
    """Run a notebook in an empty folder, and write its outputs into it."""
    notebook = json.loads(path.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        outputs = run(notebook)
    for number, (cell, found) in enumerate(zip(code_cells(notebook), outputs, strict=True), start=1):
        cell["execution_count"], cell["outputs"] = number, found
    notebook["metadata"]["polytask"] = {"outputs_of": digest(notebook)}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name in sys.argv[1:]:
        main(Path(name).resolve())
