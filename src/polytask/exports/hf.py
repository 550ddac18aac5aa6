"""One folder per task that the libraries of Hugging Face load without polytask.

If the family has a head of this form, classes and pipelines of transformers load it; heads that average tokens are
written for sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.exports.exporter import Exported, Exporter, write_folders

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle


class HfExport(Exporter):
    """Writes a folder per task for plain transformers, or sentence-transformers."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.artifact.card import plain_card
        from polytask.exports.plain import averages, encoder_obstacle, plain_model, plain_tokenizer, require_held
        from polytask.exports.sentence_transformers import fill_averaging
        from polytask.model.loading import quiet

        require_held(bundle, encoder_obstacle, "hf")

        def fill(name: str, folder: Path) -> None:
            if averages(bundle, name):
                fill_averaging(bundle, name, folder)
                return
            with quiet():
                plain_model(bundle, name).save_pretrained(folder)
                plain_tokenizer(bundle).save_pretrained(folder)
            (folder / "README.md").write_text(plain_card(bundle, name), "utf-8")

        return Exported(write_folders(out, bundle.tasks, fill), tuple(_notes(bundle)))


def _pools(pooling: str) -> str:
    return "averages (pooling: mean)" if pooling == "mean" else f"reads one token (pooling: {pooling})"


def _mend(bundle: Bundle) -> str:
    from polytask.model.family import family_in

    own = "cls" in family_in(bundle.model.config).head.poolings
    return "; pipelines of transformers load it when it was trained with pooling: cls" if own else ""


def _notes(bundle: Bundle) -> Iterator[str]:
    from polytask.exports.plain import averages
    from polytask.exports.sentence_transformers import outputs_of

    for name, task in bundle.tasks.items():
        if task.gives_vectors:
            yield f"{name}: its folder is one for sentence-transformers: encode() returns {outputs_of(bundle, name)}"
        elif averages(bundle, name):
            yield (
                f"{name}: its head {_pools(task.options.pooling)}, so its folder is one for sentence-transformers: "
                f"encode() returns {outputs_of(bundle, name)}{_mend(bundle)}"
            )
        elif task.level == "row":
            yield (
                f"{name}: text pipelines truncate long texts only on request: "
                f'pipeline("text-classification", ..., truncation=True); the limit is {bundle.max_tokens} tokens'
            )
        if task.answer_range is not None:
            low, high = task.answer_range
            yield (
                f"{name}: predictions lie between {low:g} and {high:g}, but this format does not clip them: the "
                "range is polytask_range in config.json"
            )
        if task.thresholds:
            shown = ", ".join(f"{label} {value:g}" for label, value in task.thresholds.items())
            message = f"{name}: labels have these thresholds (polytask_thresholds in config.json): {shown}"
            alone = task.problem_type == "single_label_classification"
            yield f"{message}; without it the more probable label is predicted" if alone else message
        if task.decides_words_together:
            yield (
                f"{name}: pipelines decide each token separately, while polytask predicts the best valid sequence of "
                "tags, so some entities differ; a task with decode: greedy decides like the pipelines"
            )
