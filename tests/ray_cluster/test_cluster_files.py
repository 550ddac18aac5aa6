"""Files for clusters: they can be read, start the one entry, and ask only for what the command line has."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pages import DOCS, ROOT, blocks

CLUSTER = ROOT / "examples" / "cluster"
ENTRY = CLUSTER / "entry.sh"
SHELL = [ENTRY, *sorted(CLUSTER.glob("*.sbatch"))]


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder with programs that say how they were called."""
    found = tmp_path / "bin"
    found.mkdir()
    for name in ("torchrun", "polytask"):
        (found / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        (found / name).chmod(0o755)
    return found


def enter(stand_ins: Path, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
    told = {**os.environ, "PATH": f"{stand_ins}:/usr/bin:/bin", **environment}
    done = subprocess.run(["bash", ENTRY, *arguments], env=told, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def options_of(command: str) -> set[str]:
    from polytask.cli import app

    made: Any = typer.main.get_command(app)
    return {name for one in made.commands[command].params for name in one.opts}


def require_known(words: list[str]) -> None:
    """Check that a call of polytask has a command and options that are there."""
    command = words[words.index("polytask") + 1]
    used = {word.split("=")[0] for word in words[words.index("polytask") + 1 :] if word.startswith("--")}
    assert used <= options_of(command), words


def test_shell_files_are_read_by_bash_and_start_the_entry() -> None:
    assert len(SHELL) == 4
    for path in SHELL:
        subprocess.run(["bash", "-n", path], check=True)
        text = path.read_text("utf-8")
        assert "set -euo pipefail" in text
        assert path == ENTRY or "bash examples/cluster/entry.sh" in text


def test_kubernetes_and_skypilot_files_start_the_entry() -> None:
    jobs = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(CLUSTER.glob("*-job.yaml"))]
    assert {(job["apiVersion"], job["kind"]) for job in jobs} == {("batch/v1", "Job")}
    indexed, plain = jobs
    assert indexed["spec"]["completionMode"] == "Indexed"
    assert "completionMode" not in plain["spec"]
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["restartPolicy"] == "Never"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert "examples/cluster/entry.sh" in " ".join([*container["command"], *container.get("args", [])])
    parts = {one["name"]: one["value"] for one in indexed["spec"]["template"]["spec"]["containers"][0]["env"]}["PARTS"]
    assert int(parts) == indexed["spec"]["completions"]
    sky = yaml.safe_load((CLUSTER / "sky.yaml").read_text("utf-8"))
    assert "bash examples/cluster/entry.sh train" in sky["run"]
    subprocess.run(["bash", "-n", "-c", sky["run"]], check=True)


def test_the_entry_trains_on_all_machines_with_options_that_there_are(stand_ins: Path) -> None:
    code, said, _ = enter(stand_ins, "train", "c d.yaml", "runs/two", NODES="2", NODE="1", HEAD="first", GPUS="4")
    assert code == 0
    assert said[:11] == ["torchrun", "--nnodes", "2", "--nproc-per-node", "4", "--node-rank", "1", "--master-addr",
                         "first", "--master-port", "29500"]  # fmt: skip
    assert said[11:] == ["-m", "polytask", "train", "c d.yaml", "--out", "runs/two", "--resume"]
    require_known(said)


@pytest.mark.parametrize("node", [0, 1])
def test_the_entry_has_torchrun_start_lost_processes_again(stand_ins: Path, node: int) -> None:
    (stand_ins / "torchrun").write_text('#!/bin/sh\nprintf "%s\\n" "$TORCH_DISABLE_SHARE_RDZV_TCP_STORE" "$@"\n')
    where = {"NODES": "2", "NODE": str(node), "HEAD": "first", "GPUS": "4"}
    code, said, _ = enter(stand_ins, "train", "c.yaml", "runs/two", **where, RESTARTS="3")
    assert code == 0
    assert said[:13] == ["1", "--nnodes", "2", "--nproc-per-node", "4", "--rdzv-backend", "c10d", "--rdzv-endpoint",
                         "first:29500", "--rdzv-conf", f"is_host={1 - node}", "--max-restarts", "3"]  # fmt: skip
    assert said[13:] == ["-m", "polytask", "train", "c.yaml", "--out", "runs/two", "--resume"]


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_the_parts_of_all_jobs_are_the_files_each_once(stand_ins: Path, parts: int) -> None:
    files = [f"in/{at} x.parquet" for at in range(5)]
    answered: list[str] = []
    for part in range(parts):
        code, said, told = enter(stand_ins, "predict", "m", "out", *files, PARTS=str(parts), PART=str(part))
        assert code == 0
        if said:
            require_known(said)
            assert said[said.index("--out") + 1] == f"out/{part}"
        else:
            assert "none is left for it" in told
        answered += [word for word in said if word.startswith("in/")]
    assert sorted(answered) == files


def test_anything_else_is_refused(stand_ins: Path) -> None:
    code, _, told = enter(stand_ins, "tune")
    assert (code, told) == (2, "entry.sh: found 'tune'; accepted: train, predict, ray\n")


def test_commands_of_the_page_have_options_that_there_are_and_its_programs_are_read() -> None:
    texts = [(kind, text) for kind, _, text in blocks(DOCS / "engines.md")]
    commands = [line for kind, text in texts if kind == "text" for line in text.splitlines() if "polytask" in line]
    commands += re.findall(r"^# .*: sbatch .*$", "\n".join(path.read_text("utf-8") for path in SHELL), re.MULTILINE)
    for line in commands:
        if line.startswith("polytask"):
            require_known(line.split())
    assert "--ray" in options_of("auto")
    programs = [text for kind, text in texts if kind == "python"]
    assert len(programs) == 3
    for text in programs:
        compile(text, "engines.md", "exec")
