"""One folder a task that sentence-transformers loads: for heads that average, which plain classes do not have.

`SentenceTransformer(folder).encode(texts)` returns the task's logits (or the number): an encoder, the mean of the
tokens' states, and the head as a dense layer without an activation. It is written by hand, for small JSON files say it
all: only loading needs the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polytask.exports.exporter import Exported, Exporter, write_folders
from polytask.files import write_json

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle

_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"))


class SentenceTransformersExport(Exporter):
    """A folder a task for sentence-transformers."""

    def write(self, bundle: Bundle, out: Path) -> Exported:
        from polytask.exports.plain import require_held

        require_held(bundle, obstacle, "sentence-transformers")
        folders = write_folders(out, bundle.tasks, lambda name, folder: fill_averaging(bundle, name, folder))
        return Exported(folders, tuple(f"{name}: encode() returns {outputs_of(bundle, name)}" for name in bundle.tasks))


def obstacle(bundle: Bundle, name: str) -> str | None:
    """Say why a task has no form there, and what to do; None where it has one."""
    from polytask.exports.plain import encoder_obstacle

    task, head = bundle.tasks[name], bundle.model.head(name)
    if task.level == "word":
        return "it answers each word, and sentence-transformers whole texts; use --to hf"
    if head.dense is not None:
        return "its head is the one of the family's own class; use --to hf"
    return encoder_obstacle(bundle, name)


def outputs_of(bundle: Bundle, name: str) -> str:
    """Say what `encode` returns."""
    labels = bundle.tasks[name].labels
    return f"the logits of {', '.join(labels)}" if labels else "the number"


def fill_averaging(bundle: Bundle, name: str, folder: Path) -> None:
    """Write a task whose head averages into an empty folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel

    from polytask.artifact.card import sentence_card
    from polytask.exports.plain import fill_encoder, output_layer, plain_config, plain_tokenizer
    from polytask.model.loading import quiet

    task, head = bundle.tasks[name], bundle.model.head(name)
    with quiet():
        encoder = AutoModel.from_config(plain_config(bundle, task), dtype=torch.float32, trust_remote_code=False)
        fill_encoder(encoder, bundle, name)
        pooler = getattr(encoder, "pooler", None)
        for parameter in () if pooler is None else pooler.parameters():
            torch.nn.init.zeros_(parameter)  # nobody reads it; drawn weights would differ from export to export
        encoder.save_pretrained(folder)
        plain_tokenizer(bundle).save_pretrained(folder)
    width, size = head.out.in_features, head.out.out_features
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(_MODULES)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": bundle.max_tokens, "do_lower_case": False})
    for path, _ in _MODULES[1:]:
        (folder / path).mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    dense = {"in_features": width, "out_features": size, "bias": True}
    activation = {"activation_function": "torch.nn.modules.linear.Identity"}
    write_json(folder / "2_Dense" / "config.json", {**dense, **activation})
    layer = {f"linear.{key}": value.contiguous() for key, value in output_layer(head, task).items()}
    save_file(layer, folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").write_text(sentence_card(bundle, name), "utf-8")
