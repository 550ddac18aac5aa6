"""Processes that start at once: a server that has imported everything forks them.

A process that imports torch and transformers computes for seconds before it does what a test asks, and the suite starts
about a hundred. A stand-in for the interpreter sends its arguments, environment, folder and open files to the server,
whose fork runs the same code as a new interpreter would; signals and the exit code are passed on. Tests of what is
imported, of memory, and of kills start real interpreters, and so do those whose processes must not hash strings alike.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drawing import drawn_once

IMPORTED = (
    "polytask.api", "polytask.cli", "polytask.quickstart", "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert", "datasets",
)  # fmt: skip
# Isolated and without site-packages, since it only passes on: it starts in a hundredth of a second.
STAND_IN = """#!{python} -IS
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
lifeline = os.environ.get("POLYTASK_LIFELINE")
socket.send_fds(link, [b"."], [0, 1, 2, *([int(lifeline)] if lifeline else [])])
told = [{before!r} + sys.argv[1:], os.getcwd(), dict(os.environ), sys.argv[0]]
link.sendall(json.dumps(told).encode() + b"\\n")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: link.send(bytes([number])))
code = int(link.recv(16) or b"-9")
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def server(folder: Path, drawn: Path) -> Iterator[Path]:
    """Start the server; give the folder of the stand-ins for `python` and `polytask`.

    Args:
        drawn: the folder of graphs that are drawn once (`drawing.py`).
    """
    address = str(folder / "server")
    for name, before in (("python", []), ("polytask", ["-m", "polytask"])):
        path = folder / name
        path.write_text(STAND_IN.format(python=sys.executable, address=address, before=before), "utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    # One thread: a process that forks must have no other.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, address, str(drawn)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield folder
        process.stdin.close()  # which ends it
        process.wait(120)


def serve(address: str, drawn: Path) -> None:
    """Fork a keeper for everybody who connects, until stdin is closed."""
    for module in IMPORTED:
        importlib.import_module(module)
    os.fsync = lambda handle: os.fstat(handle) and None  # as in the tests' own process (`conftest.py`)
    gc.freeze()  # a fork that looked for garbage among half a million objects would copy their pages
    with drawn_once(drawn), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([listening, 0], [], [])
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if 0 in ready:
                return
            link, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                keep(link)
                os._exit(0)
            link.close()


def keep(link: socket.socket) -> None:
    """Fork what was asked for, pass signals on to it, and send its exit code; end it when nobody waits for it."""
    _, files, _, _ = socket.recv_fds(link, 1, 4)
    told = b""
    while not told.endswith(b"\n"):
        part = link.recv(65536)
        if not part:
            return
        told += part
    arguments, folder, environment, executable = json.loads(told)
    worker = os.fork()
    if worker == 0:
        link.close()
        become(files, folder, environment, executable)
        run(arguments)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(worker)
    while True:
        ready, _, _ = select.select([link, ended], [], [])
        if ended in ready:
            code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
            with suppress(BrokenPipeError):
                link.sendall(str(code).encode())
            return
        numbers = link.recv(16) or bytes([signal.SIGKILL])
        for number in numbers:
            os.kill(worker, number)
        if numbers == bytes([signal.SIGKILL]):
            os.waitpid(worker, 0)
            return


def become(files: list[int], folder: str, environment: Mapping[str, str], executable: str) -> None:
    """Take over what a process has of its own."""
    for place, file in enumerate(files[:3]):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    if files[3:]:
        os.environ["POLYTASK_LIFELINE"] = str(files[3])
    os.chdir(folder)
    # What it starts starts as quickly.
    sys.executable = str(Path(executable).with_name("python"))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(arguments: list[str]) -> None:
    """Do what `python <arguments>` does, and end."""
    while arguments[0] == "-W":
        warnings.filterwarnings(arguments[1])  # type: ignore[arg-type]
        arguments = arguments[2:]
    code: Any = 0
    try:
        if arguments[0] == "-m":
            sys.argv, sys.path[0] = arguments[1:], str(Path.cwd())
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] in ("-c", "-"):
            text = arguments.pop(1) if arguments[0] == "-c" else sys.stdin.read()
            sys.argv, sys.path[0] = arguments, str(Path.cwd())
            main = type(sys)("__main__")
            sys.modules["__main__"] = main
            exec(compile(text, "<string>", "exec"), vars(main))
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter, which prints whatever ends a program
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
