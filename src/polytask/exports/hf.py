"""One folder a task that plain Hugging Face classes and `pipeline` load, without polytask."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.errors import OutputError
from polytask.exports.exporter import Exported, Exporter

if TYPE_CHECKING:
    from polytask.artifact.folder import Bundle


class HfExport(Exporter):
    """A folder a task for plain transformers."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.artifact.card import plain_card
        from polytask.exports.plain import plain_model, plain_tokenizer, require_plain
        from polytask.model.origin import quiet

        require_plain(bundle)
        temporary = out.with_name(f".writing-{out.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            for name in bundle.tasks:
                folder = temporary / name
                folder.mkdir(parents=True)
                with quiet():
                    plain_model(bundle, name).save_pretrained(folder)
                    plain_tokenizer(bundle).save_pretrained(folder)
                (folder / "README.md").write_text(plain_card(bundle, name), "utf-8")
            temporary.replace(out)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise OutputError(f"{out}: cannot be written ({error})") from None
        return Exported({name: out / name for name in bundle.tasks}, tuple(_notes(bundle)))


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
