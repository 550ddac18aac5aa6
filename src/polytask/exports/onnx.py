"""One ONNX graph of a whole model, in a folder that is answered from without torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from polytask.errors import ConfigError, MissingExtra, ModelError
from polytask.exports.exporter import Exported, Exporter
from polytask.files import new_folder, write_json
from polytask.version import __version__

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle
    from polytask.exports.parity import ParityMeasurement, TaskParity
    from polytask.tasks import Task

# A float32 graph whose outputs differ by more than this is not the same function; rounding makes 1e-5 of it.
TOLERANCE = 1e-3


class OnnxExport(Exporter):
    """An ONNX graph for ONNX Runtime."""

    data: dict[str, str] = Field(
        default={}, description="labelled files for the parity report: by task, or one for all tasks under `all`"
    )
    run: str | None = Field(
        default=None,
        description="folder of a run whose dev rows are used where there is no `data`; by default the model's own",
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
                "whether a task loses by it is measured on labelled rows; add data: --data FILE, or export the folder "
                "of the run, whose dev rows are used then"
            )
        return value

    def write(self, bundle: Bundle, out: Path) -> Exported:
        require_onnx()
        with new_folder(out) as temporary:
            parity = self.write_graph(bundle, temporary)
        return Exported({"onnx": out}, self.told(parity))

    def told(self, parity: Mapping[str, TaskParity]) -> tuple[str, ...]:
        """Return what a person should know: the rows that were compared on, and how far the graph is from the model."""
        return (*self._rows(), *_lines(parity))

    def _rows(self) -> list[str]:
        """Say which labelled rows were taken where none were named."""
        if self.data or self.run is None:
            return []
        return [f"compared on the dev rows of {self.run}, which also chose its model; --data names other rows"]

    def write_graph(self, bundle: Bundle, folder: Path) -> dict[str, TaskParity]:
        """Write the graph and what belongs to it into an empty folder, and return how far it is from the model."""
        from polytask.artifact.description import WEIGHTS, write_description
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
        self._require_scored(bundle.tasks, reference)  # before the graph, which takes longer
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
        (folder / "README.md").write_text(_card(bundle, report), "utf-8")
        write_description(folder, "onnx", {**bundle.to_json(), "graph": form.to_json(), "precision": "fp32"})
        return parity

    def _require_scored(self, tasks: Mapping[str, Task], reference: ParityMeasurement) -> None:
        """Raise ConfigError where int8 weights are asked for, and a task has no labelled rows to tell its loss."""
        scores = reference.scores
        unknown = [name for name, task in tasks.items() if scores.get(name, {}).get(task.metric) is None]
        if self.quantize is not None and unknown:
            raise ConfigError(
                f"data: no labelled rows to score {', '.join(unknown)} on, and int8 is written for tasks that were "
                "measured only; add --data TASK=FILE, or leave the task out with --tasks"
            )

    def _require_equal(self, parity: Mapping[str, TaskParity]) -> None:
        """Raise ModelError where the graph computes something else, or int8 costs more than is allowed."""
        if self.quantize is None:
            wrong = [task for task, found in parity.items() if not found.difference <= TOLERANCE]
            if wrong:
                raise ModelError(
                    f"the graph's outputs for {', '.join(wrong)} differ from torch's by "
                    f"{max(parity[task].difference for task in wrong):.2g}, more than {TOLERANCE:g}; nothing is "
                    "written; please report it with the encoder's name"
                )
            return
        lost = {task: found.lost for task, found in parity.items() if found.lost is not None}
        refused = [f"{task} loses {points:.2f}" for task, points in lost.items() if not points <= self.max_loss]
        if refused:
            raise ModelError(
                f"int8 is refused: {', '.join(refused)} points, and --max-loss allows {self.max_loss:g}; nothing is "
                "written; export without --quantize, or allow more"
            )


def require_onnx() -> None:
    """Raise MissingExtra where what writes a graph is not installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(package, "export", "writing an ONNX graph")


@dataclass(frozen=True)
class _Report:
    """What parity.json holds."""

    tasks: Mapping[str, TaskParity]
    quantize: str | None
    max_loss: float | None
    bytes_of_files: Mapping[str, int]
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        tasks = {name: asdict(found) for name, found in self.tasks.items()}
        return {**self.__dict__, "tasks": tasks}


def _lines(parity: Mapping[str, TaskParity]) -> list[str]:
    """Say for each task how far the graph is from the model in torch."""
    lines: list[str] = []
    for name, found in parity.items():
        told = f"{name}: outputs differ by at most {found.difference:.1e} on {found.rows} rows"
        if found.agreement is not None:
            told += f", {100 * found.agreement:.2f} % of them answered alike"
        scores = [f"{key} {_shown(value)} -> {_shown(found.after.get(key))}" for key, value in found.before.items()]
        lines.append("; ".join([told, *scores[:1]]))
    return lines


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}


def _versions() -> dict[str, str]:
    others = ("torch", "onnx", "onnxscript", "onnxruntime")
    return {"polytask": __version__, **{name: metadata.version(name) for name in others}}


def _card(bundle: Bundle, report: _Report) -> str:
    """Write the model's card, with what the export changed."""
    from polytask.artifact.card import Use, card

    code = 'import polytask\n\nmodel = polytask.load("this folder")\nmodel.predict(["A text."])'
    limits = ("It runs on the CPU, in ONNX Runtime, without torch: `pip install 'polytask[onnx-runtime]'`.",)
    size = report.bytes_of_files["model.onnx"] + report.bytes_of_files.get("model.onnx.data", 0)
    made = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [card(bundle, Use("polytask", code, limits)), "## Against the model in torch", ""]
    lines += [
        f"One ONNX graph with {report.quantize or 'fp32'} weights, {size / 1e6:.1f} MB, beside float32 in torch:",
        "",
    ]
    lines += [f"* {line}" for line in _lines(report.tasks)]
    lines += ["", f"All figures are in parity.json. Exported with {made}.", ""]
    return "\n".join(lines)
