"""One folder a task that plain Hugging Face classes and `pipeline` load, without polytask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.exports.exporter import Exported, Exporter, write_folders

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle


class HfExport(Exporter):
    """A folder a task for plain transformers."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.artifact.card import plain_card
        from polytask.exports.plain import obstacle, plain_model, plain_tokenizer, require_held
        from polytask.model.origin import quiet

        require_held(bundle, obstacle, "hf")

        def fill(name: str, folder: Path) -> None:
            with quiet():
                plain_model(bundle, name).save_pretrained(folder)
                plain_tokenizer(bundle).save_pretrained(folder)
            (folder / "README.md").write_text(plain_card(bundle, name), "utf-8")

        return Exported(write_folders(out, bundle.tasks, fill), tuple(_notes(bundle)))


def _notes(bundle: Bundle) -> Iterator[str]:
    for name, task in bundle.tasks.items():
        if task.level == "row":
            yield (
                f"{name}: pipelines of texts cut long ones only when told: "
                f'pipeline("text-classification", ..., truncation=True); the limit is {bundle.max_tokens} tokens'
            )
        if task.thresholds:
            shown = ", ".join(f"{label} {value:g}" for label, value in task.thresholds.items())
            yield f"{name}: labels count from these probabilities (polytask_thresholds in config.json): {shown}"
