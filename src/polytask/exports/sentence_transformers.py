"""One folder per task that sentence-transformers loads, for vectors and for heads that average.

`SentenceTransformer(folder).encode(texts)` returns the task's vector, logits or number: the model consists of an
encoder, a pooling, and the head, if any, as a dense layer without an activation. The small JSON files are written
directly: only loading needs the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from polytask.exports.exporter import Exported, Exporter, write_folders
from polytask.files import write_json

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle
    from polytask.model.heads import Head
    from polytask.tasks import Task

# Names of the poolings in sentence-transformers.
_MODES = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
_Modules: TypeAlias = "list[tuple[str, str]]"


class SentenceTransformersExport(Exporter):
    """Writes a folder per task for sentence-transformers."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.exports.plain import require_held

        require_held(bundle, obstacle, "sentence-transformers")
        folders = write_folders(out, bundle.tasks, lambda name, folder: fill_averaging(bundle, name, folder))
        return Exported(folders, tuple(f"{name}: encode() returns {outputs_of(bundle, name)}" for name in bundle.tasks))


def obstacle(bundle: Bundle, name: str) -> str | None:
    """Return why a task cannot be exported, with a fix; None if it can."""
    from polytask.exports.plain import encoder_obstacle

    task, head = bundle.tasks[name], bundle.model.head(name)
    if task.level == "word":
        return "it labels each word, and sentence-transformers whole texts; use --to hf"
    if head.dense is not None:
        return "its head is the one of the family's own class; use --to hf"
    return encoder_obstacle(bundle, name)


def outputs_of(bundle: Bundle, name: str) -> str:
    """Describe what `encode` returns."""
    labels = bundle.tasks[name].labels
    if bundle.tasks[name].gives_vectors:
        return "the vector"
    return f"the logits of {', '.join(labels)}" if labels else "the number"


def fill_averaging(bundle: Bundle, name: str, folder: Path) -> None:
    """Write a task whose head averages, or gives a vector, into an empty folder."""
    import torch
    from transformers import AutoModel

    from polytask.artifact.card import sentence_card
    from polytask.exports.plain import fill_encoder, plain_config, plain_tokenizer
    from polytask.model.loading import quiet

    task, head = bundle.tasks[name], bundle.model.head(name)
    with quiet():
        encoder = AutoModel.from_config(plain_config(bundle, task), dtype=torch.float32, trust_remote_code=False)
        fill_encoder(encoder, bundle, name)
        pooler = getattr(encoder, "pooler", None)
        for parameter in () if pooler is None else pooler.parameters():
            torch.nn.init.zeros_(parameter)  # unused; random weights would differ between exports
        encoder.save_pretrained(folder)
        plain_tokenizer(bundle).save_pretrained(folder)
    modules: _Modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    _write_pooling(folder / "1_Pooling", int(bundle.model.config.hidden_size), head.pooling)
    if isinstance(head.out, torch.nn.Linear):
        modules.append(("2_Dense", "Dense"))
        _write_dense(folder / "2_Dense", head, task)
    if task.gives_vectors and task.options.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        (folder / modules[-1][0]).mkdir()
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": bundle.max_tokens, "do_lower_case": False})
    (folder / "README.md").write_text(sentence_card(bundle, name), "utf-8")


def _write_pooling(folder: Path, width: int, pooling: str) -> None:
    folder.mkdir()
    modes = {f"pooling_mode_{mode}": pooling == name for name, mode in _MODES.items()}
    write_json(folder / "config.json", {"word_embedding_dimension": width, **modes})


def _write_dense(folder: Path, head: Head, task: Task) -> None:
    from safetensors.torch import save_file

    from polytask.exports.plain import output_layer

    folder.mkdir()
    layer = {f"linear.{key}": value.contiguous() for key, value in output_layer(head, task).items()}
    size, width = layer["linear.weight"].shape
    dense = {"in_features": width, "out_features": size, "bias": True}
    write_json(folder / "config.json", {**dense, "activation_function": "torch.nn.modules.linear.Identity"})
    save_file(layer, folder / "model.safetensors", metadata={"format": "pt"})
