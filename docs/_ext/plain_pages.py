"""For programs: every page as plain Markdown beside its HTML, and llms.txt, which lists them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HEAD = """# polytask

> Trains one text model for several tasks (classification, sentiment, entities, ratings, ...), lets its user decide or
> discover what the tasks share and when each one trains, proves whether sharing paid off against one model a task, and
> ships one small model that answers everything in one pass. Python, PyTorch, Apache-2.0.

"""


def write(app: Sphinx, error: Exception | None) -> None:
    """Copy the sources of all pages, and list them with their first sentence."""
    if error is not None or app.builder.name != "html" or app.config.language != "en":
        return
    lines = [HEAD, "## Pages\n\n"]
    for name in sorted(app.env.found_docs):
        source = Path(app.env.doc2path(name))
        target = Path(app.outdir) / f"{name}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        text = source.read_text("utf-8")
        title = next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), name)
        lines.append(f"* [{title}]({name}.md): {_first_sentence(text)}\n")
    (Path(app.outdir) / "llms.txt").write_text("".join(lines), "utf-8")


def _first_sentence(text: str) -> str:
    body = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    paragraphs = (" ".join(part.split()) for part in body.split("\n\n"))
    first = next((part for part in paragraphs if part and part[0] not in "#|:*<!`"), "")
    return re.split(r"(?<=[.:])\s", first)[0]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
