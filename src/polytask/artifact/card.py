"""The model card: README.md of a saved or exported folder, in the form that the Hugging Face hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from polytask.model.loading import PACKAGES
from polytask.regular import is_there
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle

# Maximum number of labels that are listed; the rest are counted.
LISTED = 20
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# The hub's name of what a task does, by its level.
PIPELINES = {"row": "text-classification", "word": "token-classification"}


@dataclass(frozen=True)
class Use:
    """How to use a model in the form in which it is stored.

    Attributes:
        loader: package that loads it.
        code: example program.
        limits: limitations of this form, a sentence each.
    """

    loader: str
    code: str
    limits: tuple[str, ...] = ()


def model_card(bundle: Bundle) -> str:
    """Return the card of a model folder."""
    code = 'import polytask\n\nmodel = polytask.load("this folder")\nmodel.predict(["A text."])'
    return card(bundle, Use("polytask", code))


def plain_card(bundle: Bundle, name: str) -> str:
    """Return the card of one task's folder for plain transformers."""
    task = bundle.tasks[name]
    alone = replace(bundle, tasks={name: task})
    if task.level == "word":
        definition = 'tag = pipeline("token-classification", model="this folder", aggregation_strategy="first")'
        code = f'from transformers import pipeline\n\n{definition}\ntag("A text.")'
    else:
        more = ", top_k=None" if task.thresholds else ""
        text = '"A text."' if task.options.inputs.second is None else '{"text": "A text.", "text_pair": "Another."}'
        definition = f'answer = pipeline("text-classification", model="this folder", truncation=True{more})'
        code = f"from transformers import pipeline\n\n{definition}\nanswer({text})"
    return card(alone, Use("transformers", code, tuple(_plain_limits(task))))


def sentence_card(bundle: Bundle, name: str) -> str:
    """Return the card of one task's folder for sentence-transformers."""
    task = bundle.tasks[name]
    text = '"A text."' if task.options.inputs.second is None else '("A text.", "Another.")'
    usage = f'model = SentenceTransformer("this folder")\nmodel.encode([{text}])'
    code = f"from sentence_transformers import SentenceTransformer\n\n{usage}"
    order = f"logits in the order {', '.join(f'`{_code(label)}`' for label in task.labels)}" if task.labels else ""
    order = "the vector" if task.gives_vectors else order or "the predicted number"
    limits = (f"`encode` returns {order}: what sentence-transformers calls the embedding is the prediction.",)
    return card(replace(bundle, tasks={name: task}), Use("sentence-transformers", code, limits))


def _plain_limits(task: Task) -> Iterator[str]:
    if task.level == "row":
        yield "Without `truncation=True`, `pipeline` fails on long texts, or predicts them wrongly."
    if task.thresholds and task.problem_type == "single_label_classification":
        yield (
            "`pipeline` predicts the more probable label. The scores in this card are for the threshold above "
            "(`polytask_thresholds` in config.json): below it the other label is predicted."
        )
    elif task.thresholds:
        yield (
            "`pipeline` returns the probability of each label; apply the thresholds above (`polytask_thresholds` in "
            "config.json)."
        )
    if not task.labels:
        yield "The only output is the predicted number: `pipeline` returns it as the score."
    if task.level == "word":
        yield 'The first token of a word decides its tag: use `aggregation_strategy="first"`.'


def card(bundle: Bundle, use: Use) -> str:
    """Return the card of a model: its tasks, scores, training rows, intended use and limits."""
    name = " and ".join(bundle.tasks) if len(bundle.tasks) < 3 else f"{len(bundle.tasks)} tasks"
    sections = [
        f"---\n{_front_matter(bundle, use)}---\n",
        f"# A text model for {name}\n",
        f"{_summary(bundle)}\n",
        "## Tasks\n",
        *(f"{_task_lines(task, bundle.about)}\n" for task in bundle.tasks.values()),
        "## Evaluation\n",
        f"{_scores(bundle)}\n",
        "## Parameter sharing\n",
        f"```text\n{bundle.model.sharing.picture()}\n```\n",
        "## Intended use and limitations\n",
        "\n".join(f"* {limit}" for limit in (*_limits(bundle), *use.limits)) + "\n",
        "## How to use\n",
        f"```python\n{use.code}\n```\n",
        f"Trained with {_versions(bundle.about)}.\n",
    ]
    return "\n".join(sections)


def _front_matter(bundle: Bundle, use: Use) -> str:
    fields: dict[str, Any] = {"library_name": use.loader}
    levels = {task.level for task in bundle.tasks.values()}
    if len(levels) == 1 and (len(bundle.tasks) == 1 or use.loader != "polytask"):
        fields["pipeline_tag"] = PIPELINES[levels.pop()]
    base = base_model(str(bundle.about.get("encoder", "")))
    if base is not None:
        fields["base_model"] = base
    fields["tags"] = ["polytask", "multi-task-learning", *sorted({task.type_name for task in bundle.tasks.values()})]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def base_model(encoder: str) -> str | None:
    """Return the hub id of an encoder, or None if it is a local folder."""
    if encoder in PACKAGES:
        return PACKAGES[encoder].hub_id
    known = _HUB_ID.fullmatch(encoder) is not None and not is_there(encoder)
    return encoder if known else None


def _summary(bundle: Bundle) -> str:
    encoder = str(bundle.about.get("encoder", ""))
    shown = base_model(encoder) or (Path(encoder).name if encoder else "unknown")
    count = len(bundle.tasks)
    passes = bundle.model.passes()
    work = "one pass" if passes <= 1 else f"one call ({passes:.3g} passes of an encoder)"
    what = "the task below" if count == 1 else f"the {count} tasks below in {work}"
    kind = bundle.model.config.model_type
    return (
        f"Predicts {what}. Fine-tuned from the encoder `{_code(shown)}` ({kind}); reads up to {bundle.max_tokens} "
        "tokens of a text."
    )


def _task_lines(task: Task, about: Mapping[str, Any]) -> str:
    facts: Mapping[str, Any] = about.get("data", {}).get(task.name, {})
    second = task.options.inputs.second
    pair = "" if second is None else " on pairs of texts"
    lines = [f"**{task.name}**: {task.type_name}{pair}"]
    if task.labels:
        counts: Mapping[str, int] = facts.get("labels") or {}
        unit = "words" if task.level == "word" else "rows"
        counted = f" (training {unit})" if counts else ""
        lines.append(f"* labels{counted}: {_listed(_label(label, counts) for label in task.labels)}")
    elif task.gives_vectors:
        lines.append(
            f"* a vector of {task.head.size} numbers; the cosine of two vectors is the similarity of their texts"
        )
    elif task.options_column is not None:
        lines.append(
            f"* one of the options of each row, which are a list of texts in the column `{task.options_column}`"
        )
    elif facts.get("range"):
        low, mean, high = facts["range"]
        lines.append(f"* a number; the training labels range from {low:g} to {high:g}, with a mean of {mean:g}")
    temperature = task.describe_tuned().get("temperature", 1.0)
    if temperature != 1.0:
        lines.append(f"* probabilities are calibrated on the dev rows (temperature {temperature:.3g})")
    if task.thresholds:
        thresholds = _listed(f"`{_code(label)}` {value:g}" for label, value in task.thresholds.items())
        lines.append(f"* thresholds, from which labels are predicted: {thresholds}")
    rows = ", ".join(f"{split} {count}" for split, count in facts.get("rows", {}).items())
    if rows:
        lines.append(f"* rows: {rows}")
    if task.options.reads:
        lines.append(f"* its head reads the predictions of {', '.join(task.options.reads)}")
    return "\n".join(lines)


def _label(label: str, counts: Mapping[str, int]) -> str:
    return f"`{_code(label)}`" + (f" {counts[label]}" if label in counts else "")


def _listed(items: Iterable[str]) -> str:
    texts = list(items)
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return ", ".join(texts[:LISTED]) + more


def _code(text: str) -> str:
    """Return a text that is safe between backticks in a table cell."""
    return " ".join(text.replace("`", "'").replace("|", "/").split())


def _scores(bundle: Bundle) -> str:
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]] = bundle.about.get("scores", {})
    lines = [
        f"| {name} | {split} | {_shown(bundle.tasks[name], split_scores[name])} |"
        for name in bundle.tasks
        for split, split_scores in scores.items()
        if name in split_scores
    ]
    if not lines:
        return "The model has not been evaluated."
    return "\n".join(["| task | split | scores, the main metric first |", "|---|---|---|", *lines])


def _shown(task: Task, scores: Mapping[str, float | None]) -> str:
    ordered: Sequence[str] = [*task.metrics, *(name for name in scores if name not in task.metrics)]
    return ", ".join(f"{name} {_number(scores[name])}" for name in ordered if name in scores)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _limits(bundle: Bundle) -> Iterator[str]:
    yield (
        "Intended for texts like those it was trained on. It was selected on the dev rows; scores on texts from other "
        "sources, times or languages may be lower."
    )
    yield f"Texts longer than {bundle.max_tokens} tokens are truncated: the model does not read the rest."
    if any(task.labels for task in bundle.tasks.values()):
        yield "It predicts only the labels above, even for texts to which none of them applies."
    yield "Probabilities may be overconfident; so may calibrated ones on texts of another kind."
    yield (
        "It makes mistakes, and may make more of them for some groups of people than for others, which its scores do "
        "not show: do not use it for decisions about people without human review."
    )
    if bundle.precision != "fp32":
        yield f"Evaluated in precision {bundle.precision}: scores on another machine may differ in the third decimal."


def _versions(about: Mapping[str, Any]) -> str:
    versions: Mapping[str, str] = about.get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "an unknown version of polytask"
