"""Predictions as span annotations, in the formats of annotation tools, which training can read too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from polytask.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from polytask.predict.predictor import Model, TextPrediction

Entities: TypeAlias = Sequence[Mapping[str, Any]]


def _doccano(text: str, entities: Entities) -> dict[str, Any]:
    return {"text": text, "label": _triples(entities)}


def _spacy(text: str, entities: Entities) -> list[Any]:
    return [text, {"entities": _triples(entities)}]


def _prodigy(text: str, entities: Entities) -> dict[str, Any]:
    return {"text": text, "spans": [{key: entity[key] for key in ("start", "end", "label")} for entity in entities]}


def _label_studio(text: str, entities: Entities) -> dict[str, Any]:
    result = [
        {
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {
                "start": _javascript_length(text[: entity["start"]]),
                "end": _javascript_length(text[: entity["end"]]),
                "text": entity["text"],
                "labels": [entity["label"]],
            },
            "score": entity["score"],
        }
        for entity in entities
    ]
    return {"data": {"text": text}, "predictions": [{"result": result}]}


def _triples(entities: Entities) -> list[list[Any]]:
    return [[entity["start"], entity["end"], entity["label"]] for entity in entities]


def _javascript_length(text: str) -> int:
    """Return the length of a text in UTF-16 code units, which Label Studio counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# The function that formats a text with its entities for each tool.
SPAN_FORMS: dict[str, Callable[[str, Entities], Any]] = {
    "doccano": _doccano,
    "label-studio": _label_studio,
    "prodigy": _prodigy,
    "spacy": _spacy,
}


def keep_in(answer: Any, kept: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return an annotation with the values kept from its row, where the tool expects them; spaCy has no place for them.

    Raises DataError if a kept name clashes with a value of the annotation.
    """
    if not kept or not isinstance(answer, dict):
        return answer
    within = answer["data"] if isinstance(answer.get("data"), dict) else answer
    for name in kept:
        if name in within:
            raise DataError(f"{name!r} cannot be kept, since the annotations have their own value under this name")
    return {**answer, "data": {**kept, **within}} if within is not answer else {**kept, **answer}


def require_room(form: str, kept: Sequence[str]) -> None:
    """Raise ConfigError if there are columns to keep and the format has no place for them."""
    if kept and isinstance(SPAN_FORMS[form]("", []), list):
        raise ConfigError(
            f"keep: found {', '.join(kept)}; {form} writes pairs of a text and its spans, without columns"
        )


def span_writer(model: Model, tasks: Sequence[str] | None, form: str) -> Callable[[TextPrediction], Any]:
    """Return a function that turns a prediction into annotations of one tagging task's entities.

    Raises ConfigError for an unknown format, and unless exactly one of the chosen tasks finds entities.
    """
    if form not in SPAN_FORMS:
        raise ConfigError(f"spans: found {form!r}; {nearest(form, SPAN_FORMS)}")
    finding: list[str] = []
    for name in model.tasks if tasks is None else tasks:
        task = model.tasks.get(name)
        if task is not None and task.finds_spans:
            finding.append(name)
    if len(finding) != 1:
        found = f"{', '.join(finding)} do" if finding else "none does"
        raise ConfigError(
            f"spans: can be written for one task that finds entities, but of the chosen tasks {found}; name it in tasks"
        )
    write, (task_name,) = SPAN_FORMS[form], finding

    def annotated(answer: TextPrediction) -> Any:  # noqa: ANN401
        text = answer.text if isinstance(answer.text, str) else answer.text[0]
        return write(text, answer.predictions.get(task_name, []))

    return annotated
