"""`polytask export --to triton`: a model repository whose configuration says what the graph takes and returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import polytask as pt
from polytask.cli import app
from polytask.errors import ConfigError
from polytask.exports.triton import GraphTensor, TritonExport
from polytask.predict.onnx_engine import open_session

pytestmark = pytest.mark.usefixtures("drawn_once")


@pytest.fixture(scope="module")
def repository(three_tasks: Path, tmp_path_factory: pytest.TempPathFactory, drawn_once: None) -> Path:
    out = tmp_path_factory.mktemp("out") / "repository"
    given = ["--to", "triton", "--name", "three.tasks", "--max-batch-size", "16", "--out", str(out)]
    done = CliRunner().invoke(app, ["export", str(three_tasks), *given])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out)
    return out


def parsed(text: str) -> Any:
    """Parse a configuration as Triton does, by its own schema."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def test_the_folder_is_laid_out_as_a_repository(repository: Path) -> None:
    assert [path.name for path in repository.iterdir()] == ["three.tasks"]
    names = {path.name for path in (repository / "three.tasks").iterdir()}
    assert {"1", "config.pbtxt", "tokenizer.json", "polytask.json", "README.md"} <= names
    assert [path.name for path in (repository / "three.tasks" / "1").iterdir()] == ["model.onnx"]


def test_the_configuration_says_what_the_graph_takes_and_returns(repository: Path) -> None:
    """Read by Triton's own schema, against what ONNX Runtime says of the graph."""
    config = parsed((repository / "three.tasks" / "config.pbtxt").read_text("utf-8"))
    session = open_session(repository / "three.tasks" / "1" / "model.onnx")
    assert (config.name, config.backend, config.max_batch_size) == ("three.tasks", "onnxruntime", 16)
    assert config.HasField("dynamic_batching")
    types = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    for told, known in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [one.name for one in told] == [one.name for one in known]
        for one, real in zip(told, known, strict=True):
            kind = one.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[one.data_type].name
            assert kind == types[real.type]
            assert list(one.dims) == [size if isinstance(size, int) else -1 for size in real.shape[1:]]


def test_the_graph_answers_what_the_configuration_promises(repository: Path) -> None:
    session = open_session(repository / "three.tasks" / "1" / "model.onnx")
    given = {one.name: np.ones((3, 7), np.int64) for one in session.get_inputs()}
    answers = dict(zip([one.name for one in session.get_outputs()], session.run(None, given), strict=True))
    about = json.loads((repository / "three.tasks" / "polytask.json").read_text("utf-8"))
    assert set(answers) == {f"logits.{task}" for task in about["tasks"]}
    assert {answer.shape[:2] if answer.ndim == 3 else answer.shape[:1] for answer in answers.values()} == {(3, 7), (3,)}


def test_names_are_quoted_as_protobuf_reads_them() -> None:
    tensor = GraphTensor('logits.a "b" \\ c\n漢', "TYPE_FP32", (-1, 4))
    config = parsed(TritonExport(name="m").configuration([tensor], [tensor]))
    assert config.output[0].name == tensor.name
    assert list(config.output[0].dims) == [-1, 4]


def test_a_name_that_is_no_folder_is_refused(three_tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name: found '../up'"):
        pt.export(three_tasks, tmp_path / "out", to="triton", name="../up")
    with pytest.raises(ConfigError, match="name: the export to 'onnx' does not have this option; only triton does"):
        pt.export(three_tasks, tmp_path / "out", to="onnx", name="up")
    with pytest.raises(ConfigError, match="the export to 'hf' does not have this option; only onnx and triton do$"):
        pt.export(three_tasks, tmp_path / "out", to="hf", quantize="int8")
