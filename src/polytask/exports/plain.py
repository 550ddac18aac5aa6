"""One task as a model of its encoder family's own classes, independent of polytask.

The task's path through the layers becomes an encoder of its family, its head the head of the family's own
`...ForSequenceClassification` or `...ForTokenClassification`: the same weights, rearranged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.artifact.bundle import Bundle
from polytask.errors import ModelError
from polytask.heads import HEADS, POOLINGS
from polytask.model.family import HeadForm, family_in
from polytask.model.heads import Head
from polytask.model.loading import quiet
from polytask.model.plain import plain_state
from polytask.tasks import Task, head_specs
from polytask.terms import DataWarning

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def require_held(bundle: Bundle, obstacle: Callable[[Bundle, str], str | None], to: str) -> None:
    """Raise ModelError unless a format can represent every task, with the reason and a fix for each that it cannot.

    Args:
        bundle: the model.
        obstacle: returns why a task cannot be represented, or None.
        to: name of the export.
    """
    obstacles = {name: found for name in bundle.tasks if (found := obstacle(bundle, name)) is not None}
    if not obstacles:
        return
    lines = [f"  {name}: {reason}" for name, reason in obstacles.items()]
    others = [name for name in bundle.tasks if name not in obstacles]
    mend = f"export the others: --tasks {','.join(others)}" if others else "export it with --to model or --to onnx"
    kind = bundle.model.config.model_type
    raise ModelError("\n".join([f"export to {to}: the plain classes of {kind} cannot hold:", *lines, f"or {mend}"]))


def averages(bundle: Bundle, name: str) -> bool:
    """Whether a task's head differs from its family's classes: it has another pooling, or gives a vector."""
    task, family = bundle.tasks[name], family_in(bundle.model.config)
    if task.gives_vectors:
        return True
    pools = task.level == "row" and task.options.pooling not in family.head.poolings
    return pools and head_specs(bundle.tasks)[name].head is None


def export_notes(bundle: Bundle) -> list[DataWarning]:
    """Return notes, before training, on tasks that cannot be exported to plain classes, or not for pipelines."""
    names_by_reason: dict[str, list[str]] = {}
    for name in bundle.tasks:
        reason = encoder_obstacle(bundle, name)
        if reason is not None:
            names_by_reason.setdefault(reason, []).append(name)
    notes = [
        DataWarning("export --to hf", f"cannot hold {', '.join(names)}: {reason}")
        for reason, names in names_by_reason.items()
    ]
    averaging = [
        name
        for name, task in bundle.tasks.items()
        if not task.gives_vectors and averages(bundle, name) and encoder_obstacle(bundle, name) is None
    ]
    poolings = family_in(bundle.model.config).head.poolings
    if averaging and not poolings:
        notes.append(
            DataWarning(
                "export --to hf",
                f"{', '.join(averaging)}: written for sentence-transformers, since the family's own class for texts "
                "has another head",
            )
        )
    elif averaging:
        option = f"tasks.{averaging[0] if len(averaging) == 1 else 'NAME'}.pooling: cls"
        notes.append(
            DataWarning(
                "export --to hf",
                f"{', '.join(averaging)}: written for sentence-transformers, since the heads average the states of all "
                f"tokens (pooling: mean) and the family's own classes read the first token; with {option} pipelines of "
                "transformers load them",
            )
        )
    return notes


def encoder_obstacle(bundle: Bundle, name: str) -> str | None:
    """Return why a task's path to its head is not a plain encoder, with a fix; None if it is one."""
    task, sharing = bundle.tasks[name], bundle.model.sharing.way_of(name)
    head_name = head_specs(bundle.tasks)[name].head
    if head_name in HEADS.extensions:
        return f"its head is {head_name!r}, which other programs do not have; use --to model or --to onnx"
    if task.head.chained:
        return "its head has transitions between tags (crf), which other programs do not have; use --to onnx or model"
    if task.problem_type is None and not task.plain_form and not task.gives_vectors:
        return f"its type is {task.type_name!r}, which other programs do not have; use --to model or --to onnx"
    if task.options.pooling in POOLINGS.extensions:
        return f"its pooling is {task.options.pooling!r}, which other programs do not have; use --to model or --to onnx"
    if sharing.mixing is not None:
        return f"{sharing.mixing.method} combines several towers; train with sharing.strategy global or partial"
    divided = (sharing.kind.adds(number, len(level)) for number, level in enumerate(sharing.plan.levels))
    if sharing.kind.name == "adapter" and any(divided):
        return "its layers have bottleneck adapters, which are no layers of the family; train with kind lora or copy"
    if not family_in(bundle.model.config).has_form_for(task.level):
        kind = bundle.model.config.model_type
        return f"transformers has no class for it on the encoder of {kind} alone; use --to model or --to onnx"
    if task.options.reads:
        return f"its head reads the predictions of {', '.join(task.options.reads)}; train it without reads"
    return None


def plain_model(bundle: Bundle, name: str) -> PreTrainedModel:
    """Return a task as a model of its family's own class for texts or for tokens; its logits are the joint model's."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    task = bundle.tasks[name]
    kind: Any = AutoModelForSequenceClassification if task.level == "row" else AutoModelForTokenClassification
    plain = kind.from_config(plain_config(bundle, task), dtype=torch.float32, trust_remote_code=False).eval()
    fill_encoder(plain.base_model, bundle, name)
    _fill_head(plain, family_in(plain.config).head, bundle.model.head(name), task)
    return plain


def fill_encoder(encoder: nn.Module, bundle: Bundle, name: str) -> None:
    """Copy a task's path through the layers into an encoder of the family; there is no pooler to copy."""
    odd = encoder.load_state_dict(plain_state(bundle.model, name), strict=False)
    assert not odd.unexpected_keys, odd.unexpected_keys
    assert all(key.startswith("pooler.") for key in odd.missing_keys), odd.missing_keys


def plain_config(bundle: Bundle, task: Task) -> Any:  # noqa: ANN401
    """Return the encoder's configuration with everything that the task's class reads."""
    from transformers import AutoConfig

    labels = list(task.labels) or [task.name]
    with quiet():
        # A new object: that of the encoder refers to polytask's attention.
        config = AutoConfig.for_model(**bundle.model.config.to_dict())
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = task.problem_type
    if task.thresholds:
        config.polytask_thresholds = task.thresholds
    if task.answer_range is not None:
        config.polytask_range = list(task.answer_range)
    form = family_in(config).head
    for key, value in form.settings:
        setattr(config, key, value)
    if task.level == "row" and task.options.pooling in form.poolings and hasattr(config, "classifier_pooling"):
        config.classifier_pooling = form.poolings[task.options.pooling]
    return config


def plain_tokenizer(bundle: Bundle) -> PreTrainedTokenizerBase:
    """Return the tokenizer, with the truncation of training, and only the outputs that the class takes."""
    tokenizer = copy.deepcopy(bundle.tokenizer)
    tokenizer.model_max_length = bundle.max_tokens
    tokenizer.padding_side = "right"  # as in training: positions count from the first token
    if not bundle.model.uses_type_ids:
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names
        tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _fill_head(plain: nn.Module, form: HeadForm, head: Head, task: Task) -> None:
    """Copy a head into the family's head, with the unit of its outputs folded into the output layer."""
    if head.dense is not None and form.dense is not None:
        plain.get_submodule(form.dense).load_state_dict(head.dense.state_dict())
    if head.norm is not None and form.dense is not None:
        parent = form.dense.rpartition(".")[0]
        plain.get_submodule(f"{parent}.norm").load_state_dict(head.norm.state_dict())
    place = form.out if task.level == "row" else form.words
    assert place is not None
    plain.get_submodule(place).load_state_dict(output_layer(head, task))


def output_layer(head: Head, task: Task) -> dict[str, Tensor]:
    """Return weight and bias of a head's last layer, with the unit of its outputs in them."""
    factor, summand = task.unit
    out = {name: value.detach().double() * factor for name, value in head.out.state_dict().items()}
    return {"weight": out["weight"].float(), "bias": (out["bias"] + summand).float()}
