"""Export to one ONNX graph of the whole model, in a folder that predicts without torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from polytask.errors import ConfigError, MissingExtra, ModelError
from polytask.exports.exporter import Exported, Exporter
from polytask.files import new_folder, write_json
from polytask.version import __version__

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle
    from polytask.exports.parity import ParityMeasurement, TaskParity
    from polytask.tasks import Task

# A float32 graph whose outputs differ by more than this is a different function; rounding causes about 1e-5.
TOLERANCE = 1e-3


class OnnxExport(Exporter):
    """Writes an ONNX graph for ONNX Runtime."""

    data: dict[str, str | tuple[str, ...]] = Field(
        default={}, description="labelled files for the parity report: by task, or for all tasks under `all`"
    )
    run: str | None = Field(
        default=None,
        description="folder of a run whose dev rows are used if there is no `data`; by default the model's own run",
    )
    quantize: Literal["int8"] | None = Field(default=None, description="int8 weights; needs `data` or a `run`")
    max_loss: float = Field(
        default=1.0, ge=0, description="points (hundredths) of its main metric that a task may lose to int8"
    )

    @field_validator("quantize")
    @classmethod
    def _quantised_models_are_scored(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not info.data.get("data") and info.data.get("run") is None:
            raise ValueError(
                "the loss is measured on labelled rows; add data: --data FILE, or export the folder "
                "of the run, to use its dev rows"
            )
        return value

    @model_validator(mode="after")
    def _max_loss_is_of_quantised_models(self) -> Self:
        if "max_loss" in self.model_fields_set and self.quantize is None:
            raise ValueError(
                "found max_loss without quantize; add quantize=int8, whose loss it limits, or leave it out"
            )
        return self

    def write(self, bundle: Bundle, out: Path) -> Exported:
        require_onnx()
        with new_folder(out) as temporary:
            parity = self.write_graph(bundle, temporary)
        return Exported({"onnx": out}, self.parity_notes(parity))

    def parity_notes(self, parity: Mapping[str, TaskParity]) -> tuple[str, ...]:
        """Return notes: the compared rows, and the difference between graph and model."""
        return (*self._rows(), *_lines(parity))

    def _rows(self) -> list[str]:
        """Return a note on the labelled rows that were used if none were given."""
        if self.data or self.run is None:
            return []
        return [f"compared on the dev rows of {self.run}, which also chose its model; --data names other rows"]

    def write_graph(self, bundle: Bundle, folder: Path) -> dict[str, TaskParity]:
        """Write the graph and its files into an empty folder, and return its difference from the model."""
        from polytask.artifact.description import CARD, WEIGHTS, write_description
        from polytask.data.tokens import Tokenization
        from polytask.exports.graph import draw
        from polytask.exports.parity import compare, measure
        from polytask.exports.quantise import quantise
        from polytask.model.loading import pad_id
        from polytask.predict.load import model_of
        from polytask.predict.onnx_engine import GraphForm, OnnxEngine, open_session
        from polytask.predict.predictor import Model

        path = folder / WEIGHTS["onnx"]
        run = None if self.run is None else Path(self.run)
        reference = measure(model_of(bundle, "cpu", "fp32"), self.data, run)
        self._require_scored(bundle.tasks, reference)  # before the graph is written, which takes longer
        if self.quantize is None:
            drawn = draw(bundle.model, path)
        else:
            full = folder / "full"
            full.mkdir()
            drawn = draw(bundle.model, full / path.name)
            quantise(full / path.name, path, drawn.precise)
            shutil.rmtree(full)
        tokens = Tokenization.of(bundle.tokenizer, bundle.max_tokens)
        bundle.tokenizer.save_pretrained(folder)
        form = GraphForm(
            drawn.inputs, drawn.outputs, self.quantize or "fp32", pad_id(bundle.tokenizer), tokens.type_ids, tokens.side
        )
        engine = OnnxEngine(open_session(path), form, bundle.tasks)
        exported = measure(Model(bundle.tasks, tokens, engine, bundle.about), self.data, run)
        parity = compare(bundle.tasks, reference, exported)
        self._require_equal(parity)
        report = _Report(parity, self.quantize, self.max_loss if self.quantize else None, _sizes(folder), _versions())
        write_json(folder / "parity.json", report.to_json())
        (folder / CARD).write_text(_card(bundle, report), "utf-8")
        write_description(folder, "onnx", {**bundle.to_json(), "graph": form.to_json(), "precision": "fp32"})
        return parity

    def _require_scored(self, tasks: Mapping[str, Task], reference: ParityMeasurement) -> None:
        """Raise ConfigError if int8 weights are requested, and a task has no labelled rows to measure its loss."""
        scores = reference.scores
        unknown = [name for name, task in tasks.items() if scores.get(name, {}).get(task.metric) is None]
        if self.quantize is not None and unknown:
            raise ConfigError(
                f"data: no labelled rows to score {', '.join(unknown)} on, and int8 is only written for tasks "
                "that were measured; add --data TASK=FILE, or leave the task out with --tasks"
            )

    def _require_equal(self, parity: Mapping[str, TaskParity]) -> None:
        """Raise ModelError if the graph computes something else, or int8 loses more than allowed."""
        if self.quantize is None:
            wrong = [task for task, task_parity in parity.items() if not task_parity.difference <= TOLERANCE]
            if wrong:
                raise ModelError(
                    f"the graph's outputs for {', '.join(wrong)} differ from torch's by "
                    f"{max(parity[task].difference for task in wrong):.2g}, more than {TOLERANCE:g}; nothing is "
                    "written; please report it with the encoder's name"
                )
            return
        lost = {task: task_parity.lost for task, task_parity in parity.items() if task_parity.lost is not None}
        refused = [f"{task} loses {points:.2f}" for task, points in lost.items() if not points <= self.max_loss]
        if refused:
            raise ModelError(
                f"int8 is rejected: {', '.join(refused)} points, but --max-loss allows {self.max_loss:g}; nothing was "
                "written; export without --quantize, or allow more"
            )


def require_onnx() -> None:
    """Raise MissingExtra if the packages for writing a graph are not installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(package, "export", "writing an ONNX graph")


@dataclass(frozen=True)
class _Report:
    """Content of parity.json."""

    tasks: Mapping[str, TaskParity]
    quantize: str | None
    max_loss: float | None
    bytes_of_files: Mapping[str, int]
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        tasks = {name: asdict(task_parity) for name, task_parity in self.tasks.items()}
        return {**self.__dict__, "tasks": tasks}


def _lines(parity: Mapping[str, TaskParity]) -> list[str]:
    """Describe the difference between the graph and the model in torch for each task."""
    lines: list[str] = []
    for name, task_parity in parity.items():
        summary = f"{name}: outputs differ by at most {task_parity.difference:.1e} on {task_parity.rows} rows"
        if task_parity.agreement is not None:
            summary += f", {100 * task_parity.agreement:.2f} % of them with equal predictions"
        scores = [
            f"{key} {_shown(value)} -> {_shown(task_parity.after.get(key))}"
            for key, value in task_parity.before.items()
        ]
        lines.append("; ".join([summary, *scores[:1]]))
    return lines


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}


def _versions() -> dict[str, str]:
    others = ("torch", "onnx", "onnxscript", "onnxruntime")
    return {"polytask": __version__, **{name: metadata.version(name) for name in others}}


def _card(bundle: Bundle, report: _Report) -> str:
    """Return the model card, including the effects of the export."""
    from polytask.artifact.card import Use, card

    code = 'import polytask\n\nmodel = polytask.load("this folder")\nmodel.predict(["A text."])'
    limits = ("It runs on the CPU, in ONNX Runtime, without torch: `pip install 'polytask[onnx-runtime]'`.",)
    size = report.bytes_of_files["model.onnx"] + report.bytes_of_files.get("model.onnx.data", 0)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [card(bundle, Use("polytask", code, limits)), "## Comparison with the model in torch", ""]
    lines += [
        f"One ONNX graph with {report.quantize or 'fp32'} weights, {size / 1e6:.1f} MB, "
        "compared with float32 in torch:",
        "",
    ]
    lines += [f"* {line}" for line in _lines(report.tasks)]
    lines += ["", f"All figures are in parity.json. Exported with {versions}.", ""]
    return "\n".join(lines)
