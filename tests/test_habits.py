"""The files that a contributor meets: they can be read, and the commands, files and names in them exist."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from polytask.balance import BALANCERS
from polytask.schedule import SCHEDULES
from polytask.tasks import TASKS
from polytask.version import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
# What every machine of the workflows has, and what they install themselves.
KNOWN = {"python", "make", "test", "git", "uv"}
MODULES = {"pip", "pytest"}


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def steps(workflow: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in workflow["jobs"].items():
        for step in job["steps"]:
            yield name, step


def require_command(line: str) -> None:
    """Fail unless a line calls a program that is there, a target of the Makefile, or a tool of the dev extra."""
    words = shlex.split(line)
    program = words[0]
    if program == "make":
        assert words[1] in TARGETS, line
    elif program.startswith(".venv/bin/"):
        name = program.rpartition("/")[2]
        installed = shutil.which(name, path=str(Path(sys.executable).parent)) or name in ("pre-commit", "pip")
        assert installed, line
    else:
        assert program in KNOWN, line
    if "-m" in words[:3]:
        assert words[words.index("-m") + 1] in MODULES, line


def test_the_workflows_are_those_that_are_described() -> None:
    assert [path.stem for path in WORKFLOWS] == ["checks", "release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_can_be_read_and_calls_what_exists(path: Path) -> None:
    workflow = load(path)
    assert set(workflow) >= {"name", True, "jobs", "permissions"}  # YAML 1.1 reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    count = 0
    for _, step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+)", step["uses"])
        for line in step.get("run", "").splitlines():
            require_command(line)
            count += 1
    assert count >= 4
    jobs = workflow["jobs"]
    for job in jobs.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)


def test_tests_run_on_every_python_and_with_the_oldest_dependencies() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "checks.yml")["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    (install,) = (step["run"] for step in jobs["lowest"]["steps"] if "--resolution" in step.get("run", ""))
    assert "lowest-direct" in install
    extras = re.search(r"\.\[([\w,-]+)\]", install)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    # A dependency without a lower bound has no lowest version that would work.
    for listed in (PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()):
        for requirement in listed:
            assert ">=" in requirement or "==" in requirement or requirement.startswith("polytask["), requirement


def test_a_release_is_published_after_the_checks_and_without_a_token() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    runs = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert runs.index("make check") < runs.index("make test-all") < runs.index("make release-check")
    publish = jobs["publish"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in text(".github/workflows/release.yml")


def test_hooks_call_the_tools_of_make_check() -> None:
    hooks = [hook for repo in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    for hook in hooks:
        require_command(hook["entry"])
        assert hook["language"] == "system"
        assert {"id", "name", "entry"} <= set(hook)
    tools = {Path(hook["entry"].split()[0]).name for hook in hooks}
    checked = re.search(r"^check: setup\n((?:\t.+\n)+)", text("Makefile"), re.MULTILINE)
    assert checked is not None
    assert tools == set(re.findall(r"\$\(BIN\)/([\w-]+)", checked[1]))
    for hook in hooks:
        if "files" in hook:
            assert re.search(hook["files"], "src/polytask/api.py")


def test_the_citation_is_of_this_version() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["project"]["name"]
    assert str(citation["version"]) == __version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert {"message", "authors", "type"} <= set(citation)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_what_a_page_names_exists(name: str) -> None:
    page = text(name)
    for link in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:src|tests|docs|examples|\.github)/[\w./-]*)`", page):
        assert (ROOT / path).exists(), path
    for block in re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            for command in re.split(r"&&", line.partition("#")[0]):
                require_command(command)
    for target in re.findall(r"`make (\w+)`", page):
        assert target in TARGETS, target


def test_the_walked_examples_name_the_tables_and_run() -> None:
    page = text("CONTRIBUTING.md")
    for table, home in (("BALANCERS", "balance"), ("SCHEDULES", "schedule"), ("TASKS", "tasks")):
        assert f"`{table}` in `src/polytask/{home}/__init__.py`" in page
    assert BALANCERS
    assert SCHEDULES
    assert TASKS
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {"__name__": "example"})
