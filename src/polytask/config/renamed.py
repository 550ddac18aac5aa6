"""Options under another name: messages for old names and for those of other libraries."""

from __future__ import annotations

from collections.abc import Sequence

# The current name, by section and old name.
RENAMED: dict[tuple[str, str], str] = {
    ("train", "batch_rows"): "batch_size",
    ("train", "accumulate"): "gradient_accumulation_steps",
    ("train", "clip_norm"): "max_grad_norm",
    ("train", "warmup"): "warmup_ratio",
    ("train", "log_every"): "logging_steps",
    ("train", "checkpoint_every"): "save_steps",
    ("train", "tensorboard"): "report_to",
    ("schedule", "loss"): "resume_drop",
    ("schedule", "sharpness"): "softmax_temperature",
    ("sharing", "measurements"): "min_measurements",
}
# Names of other libraries that do not resemble ours, with the path of the equivalent option.
FOREIGN: dict[str, str] = {
    "lr": "train.learning_rate",
    "fp16": "train.precision",
    "bf16": "train.precision",
    "max_length": "max_tokens",
    "max_seq_length": "max_tokens",
    "max_len": "max_tokens",
    "model": "encoder",
    "model_name": "encoder",
    "model_name_or_path": "encoder",
    "backbone": "encoder",
    "early_stopping": "train.patience",
    "eval_steps": "train.evaluations_per_epoch",
    "eval_strategy": "train.evaluations_per_epoch",
    "metric_for_best_model": "train.select",
    "load_best_model_at_end": "train.select",
    "lr_scheduler": "train.lr_scheduler_type",
    "optimizer": "train.optim",
    "gradient_clipping": "train.max_grad_norm",
    "layerwise_lr_decay": "train.layer_decay",
    "loss_weight": "tasks.NAME.weight",
    "text_column": "tasks.NAME.text",
    "label_column": "tasks.NAME.label",
}
# How to write options whose values have another form than before.
_WRITTEN = {"report_to": "report_to: [tensorboard]"}
# Old names that may well mean something else outside their section.
_AMBIGUOUS = frozenset({"loss", "measurements"})
# The current name of a renamed value, by option and old value.
RENAMED_VALUES: dict[tuple[str, str], str] = {("kind", "houlsby"): "adapter"}


def renamed_option(path: Sequence[str | int]) -> str | None:
    """Return a message with the current name of an option; None unless the path ends in an old name.

    >>> renamed_option(["train", "batch_rows"])
    'this option is now called batch_size'
    >>> renamed_option(["batch_rows"])
    'this option is now called train.batch_size'
    """
    *above, old = map(str, path)
    for (section, name), new in RENAMED.items():
        if name == old and (above == [section] or old not in _AMBIGUOUS):
            called = new if above == [section] else f"{section}.{new}"
            return f"this option is now called {called}{f'; write {_WRITTEN[new]}' if new in _WRITTEN else ''}"
    return None


def renamed_value(path: Sequence[str | int], value: object) -> str | None:
    """Return a message with the current name of an option's value; None unless the value is an old name.

    >>> renamed_value(["sharing", "kind"], "houlsby")
    "it is now called 'adapter'"
    """
    new = RENAMED_VALUES.get((str(path[-1]), str(value))) if path else None
    return None if new is None else f"it is now called {new!r}"
