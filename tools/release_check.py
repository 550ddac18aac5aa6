"""Build what would be released, and try it as a stranger would: each extra in an empty environment.

    make release-check
    python tools/release_check.py --extras core
    python tools/release_check.py --constraint constraints.txt

What is built lies in `dist/`. `build/` gets what the extra `all` installs, with its licences (`licences.md`) and as a
CycloneDX document (`sbom.json`). Nothing is published. It takes a quarter of an hour, most of it spent on
installing; packages come from where pip is told to find them,
in the newest versions that it finds there, or with a constraints file in those that were tested.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Words of licences that whoever installs polytask would have to know of.
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
LESSER = re.compile(r"Lesser|LGPL", re.IGNORECASE)
TEXTS = ("A moving film by Ang Lee.", "The phone broke after two days.")


class CheckFailed(Exception):
    """Something that would be released is not as it should be."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder to run its programs in."""

    path: Path
    work: Path

    def run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        """Return what a program of the environment prints; raise CheckFailed if it fails."""
        return run([str(self.path / "bin" / program), *arguments], self.work, stdin=stdin)


@dataclass(frozen=True)
class Extra:
    """What is installed, and what must work then."""

    extras: tuple[str, ...]
    attempt: Callable[[Environment], None]


def run(command: Sequence[str], folder: Path, *, stdin: str | None = None) -> str:
    """Return what a command prints; raise CheckFailed with the end of it if it fails."""
    # Neither this repository nor anything else of whoever calls is seen by it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "POLYTASK"))}
    done = subprocess.run(
        command, cwd=folder, input=stdin, text=True, capture_output=True, env=environment, timeout=1800, check=False
    )
    if done.returncode:
        raise CheckFailed(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def environment(folder: Path, name: str, packages: Sequence[str], constraint: Path | None = None) -> Environment:
    """Make an empty environment and install packages in it, with nothing pinned but by a constraints file."""
    path = folder / f"env-{name}"
    run([sys.executable, "-m", "venv", str(path)], folder)
    made = Environment(path, folder)
    # Only what is imported has to be compiled, which happens then: of torch and its like that is a small part.
    flags = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    flags += ["--constraint", str(constraint)] if constraint else []
    made.run("python", "-m", "pip", "install", *flags, *packages)
    return made


# What is built


def build(folder: Path, out: Path) -> tuple[Path, Path]:
    """Build the sdist from what git tracks, and the wheel from the sdist."""
    source = folder / "source"
    tracked = run(["git", "ls-files"], ROOT).splitlines()
    for name in tracked:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    tools = environment(folder, "build", ["build", "twine"])
    shutil.rmtree(out, ignore_errors=True)
    tools.run("python", "-m", "build", "--outdir", str(out), str(source))
    wheel, sdist = *out.glob("*.whl"), *out.glob("*.tar.gz")
    tools.run("python", "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    return wheel, sdist


def check_contents(wheel: Path, sdist: Path) -> None:
    """Raise CheckFailed unless the wheel is the package and nothing else, and both are of one version."""
    tracked = set(run(["git", "ls-files", "src/polytask"], ROOT).splitlines())
    wanted = {name.removeprefix("src/") for name in tracked}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = archive.read(metadata).decode()
    require("the wheel lacks", wanted - held)
    require("the wheel holds more than the package:", held - wanted)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    require("the sdist lacks", {"LICENSE", "README.md", "pyproject.toml", *tracked} - inside)
    require("the sdist holds", {name for name in inside if name.startswith((".venv", "runs/", "dist/"))})
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/polytask/version.py").read_text("utf-8"))
    assert version is not None
    for one in (f"\nVersion: {version[1]}\n", "\nLicense-Expression: Apache-2.0\n", "\nLicense-File: LICENSE\n"):
        if one not in told:
            raise CheckFailed(f"the wheel's metadata lack {one.strip()!r}")


def require(text: str, names: set[str]) -> None:
    """Raise CheckFailed where names are left."""
    if names:
        raise CheckFailed(f"{text} {', '.join(sorted(names)[:20])}")


# What must work


def answers(env: Environment, model: str) -> list[dict[str, Any]]:
    """Return what a model of the folder answers through the command line, in float32 as graphs do."""
    told = env.run("polytask", "predict", model, "--precision", "fp32", stdin="\n".join(TEXTS))
    return [json.loads(line) for line in told.splitlines()]


def require_answers(env: Environment, model: str, tolerance: float = 1e-4) -> None:
    """Raise CheckFailed unless a model answers as it did where it was trained."""
    expected = json.loads((env.work / "answers.json").read_text("utf-8"))
    for before, now in zip(expected, answers(env, model), strict=True):
        for task, answer in before["predictions"].items():
            found = now["predictions"][task]
            apart = (abs(found["probabilities"][label] - value) for label, value in answer["probabilities"].items())
            same = max(apart) <= tolerance and found["label"] == answer["label"]
            if not same:
                raise CheckFailed(f"{model} answers {found}, and {answer} where it was trained")


def attempt_core(env: Environment) -> None:
    """Commands that need neither torch nor a model."""
    env.run("polytask", "--version")
    json.loads(env.run("polytask", "schema"))
    env.run("python", "-c", "import polytask, sys; assert 'torch' not in sys.modules")


def attempt_all(env: Environment) -> None:
    """From a table to a model, its page, and its graph; what comes out is read by the other environments."""
    rows = [("What a moving film.", "positive", "film"), ("The phone broke at once.", "negative", "technology")]
    lines = [f"{text} {number},{mood},{topic}" for number in range(40) for text, mood, topic in rows]
    (env.work / "reviews.csv").write_text("\n".join(["text,sentiment,topic", *lines]) + "\n", "utf-8")
    env.run("polytask", "init", "reviews.csv")
    env.run("polytask", "check", "config.yaml")
    env.run("polytask", "train", "config.yaml", "--out", "run", "--set", "train.max_steps=4")
    env.run("polytask", "report", "run")
    (env.work / "answers.json").write_text(json.dumps(answers(env, "run/model")), "utf-8")
    env.run("polytask", "export", "run", "--to", "onnx", "--out", "graph")
    require_answers(env, "graph")
    attempt_tune(env)


def attempt_torch(env: Environment) -> None:
    """A trained model answers."""
    require_answers(env, "run/model")


def attempt_train(env: Environment) -> None:
    """A model is trained."""
    env.run("polytask", "train", "config.yaml", "--out", "again", "--set", "train.max_steps=4")
    require_answers(env, "again/model")


def attempt_export(env: Environment) -> None:
    """A trained model becomes a graph, which answers alike."""
    env.run("polytask", "export", "run", "--to", "onnx", "--out", f"graph-{env.path.name}")
    require_answers(env, f"graph-{env.path.name}")


def attempt_tune(env: Environment) -> None:
    """Hyper-parameters are searched."""
    env.run("polytask", "tune", "config.yaml", "--out", f"tuned-{env.path.name}", "--trials", "2",
            "--search", "train.learning_rate=log:1e-5:1e-3", "--set", "train.max_steps=2")  # fmt: skip


def attempt_graph(env: Environment) -> None:
    """A graph answers without torch."""
    require_answers(env, "graph")
    env.run("python", "-c", "import importlib.util as u; assert u.find_spec('torch') is None")


def attempt_server(env: Environment) -> None:
    """A server answers, and ends when it is told to."""
    command = [str(env.path / "bin" / "polytask"), "serve", "graph", "--port", "0"]
    with (env.work / "serve.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=env.work, stderr=log, stdout=log)
        try:
            body = json.dumps({"texts": list(TEXTS)}).encode()
            url = f"{address(process, env.work / 'serve.log')}/predict"
            asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                if len(json.load(answer)["predictions"]) != len(TEXTS):
                    raise CheckFailed("the server did not answer each text")
        finally:
            process.terminate()
        if process.wait(60):
            raise CheckFailed(f"the server ended with {process.returncode}")


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until a server tells where it listens."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"http://[\d.]+:\d+", log.read_text("utf-8"))
        if found is not None:
            try:
                with urllib.request.urlopen(f"{found[0]}/health", timeout=10):
                    return found[0]
            except urllib.error.URLError:
                pass
        time.sleep(0.2)
    raise CheckFailed(f"the server does not listen:\n{log.read_text('utf-8')[-2000:]}")


EXTRAS: Mapping[str, Extra] = {
    "core": Extra((), attempt_core),
    # The first that trains: what it leaves is read by those below.
    "all": Extra(("all", "quickstart", "tensorboard"), attempt_all),
    "onnx-runtime": Extra(("onnx-runtime",), attempt_graph),
    "export": Extra(("export", "quickstart"), attempt_export),
    "serve": Extra(("serve", "onnx-runtime"), attempt_server),
    "torch": Extra(("torch",), attempt_torch),
    "train": Extra(("train", "quickstart"), attempt_train),
    "tune": Extra(("tune", "quickstart"), attempt_tune),
}


# What is installed


def list_packages(env: Environment, folder: Path, out: Path) -> None:
    """Write the packages of an environment with their licences; raise CheckFailed for one that is copyleft."""
    out.mkdir(parents=True, exist_ok=True)
    tools = environment(folder, "licences", ["pip-licenses", "cyclonedx-bom"])
    python = str(env.path / "bin" / "python")
    command = ["--python", python, "--from", "mixed", "--with-urls"]
    found = json.loads(tools.run("pip-licenses", *command, "--format", "json"))
    (out / "licences.md").write_text(tools.run("pip-licenses", *command, "--format", "markdown"), "utf-8")
    tools.run(
        "cyclonedx-py", "environment", python, "--output-reproducible", "--of", "JSON", "-o", str(out / "sbom.json")
    )
    bad = {f"{one['Name']} ({one['License']})" for one in found if is_copyleft(one["License"])}
    require("what is installed is under a copyleft licence:", bad)


def is_copyleft(licence: str) -> bool:
    """Tell whether a licence would bind what uses a package; of several to choose from one is enough."""
    choices = re.split(r";|\bOR\b", licence)
    return all(COPYLEFT.search(one) and not LESSER.search(one) for one in choices)


def audit(env: Environment, folder: Path, *, refuse: bool) -> str:
    """Return what is known of faults in an environment's packages, or why nobody could be asked.

    Raises CheckFailed for known faults, where they are to be refused.
    """
    frozen = env.run("python", "-m", "pip", "freeze", "--exclude", "polytask")
    # A version of a build of one's own (2.13.0+cpu) is known by its public part.
    names = re.findall(r"^([\w.-]+)==([\w.]+)", frozen, re.MULTILINE)
    (folder / "audit.txt").write_text("".join(f"{name}=={version}\n" for name, version in names), "utf-8")
    tools = environment(folder, "audit", ["pip-audit"])
    try:
        tools.run("pip-audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "-r", "audit.txt")
    except CheckFailed as error:
        text = str(error)
        if "Found" in text and "vulnerabilit" in text:
            if refuse:
                raise CheckFailed(f"known faults:\n{text}") from None
            return f"known faults, which a release is refused for:\n{text}"
        return f"not asked: {text.strip().splitlines()[-1]}"
    return f"no known faults in {len(names)} packages"


def main() -> int:
    """Run the checks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="+", choices=list(EXTRAS), default=list(EXTRAS))
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheel and the sdist")
    parser.add_argument("--lists", type=Path, default=ROOT / "build", help="folder of the lists of packages")
    parser.add_argument(
        "--audit", choices=("refuse", "tell"), default="refuse", help="what known faults of packages do"
    )
    parser.add_argument("--constraint", type=Path, help="versions to install of what polytask needs; else the newest")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", flush=True)

    pinned = options.constraint.resolve() if options.constraint else None
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        try:
            wheel, sdist = build(folder, options.out.resolve())
            check_contents(wheel, sdist)
            say(f"built {wheel.name} and {sdist.name}; they hold what they should")
            for extra in [one for one in EXTRAS if one in options.extras]:
                wanted = f"[{','.join(EXTRAS[extra].extras)}]" if EXTRAS[extra].extras else ""
                env = environment(folder, extra, [f"{wheel}{wanted}"], pinned)
                EXTRAS[extra].attempt(env)
                say(f"polytask{wanted} works in an empty environment")
                if extra == "all":
                    list_packages(env, folder, options.lists.resolve())
                    say(f"no copyleft licence; {options.lists}: licences.md, sbom.json")
                    say(audit(env, folder, refuse=options.audit == "refuse"))
                shutil.rmtree(env.path)
        except CheckFailed as error:
            print(f"release check: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
