"""The command line: results to stdout, progress and messages to stderr.

Exit codes: 0 success, 1 failure, 2 invalid input, 130 stopped after saving. A process of several that lost its device,
or cannot reach the others, reports this to the process that started it by another code (`polytask.launch`).
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback

# These modules add their commands, which `--help` lists in this order.
from polytask.cli import begin, train

# isort: split
from polytask.cli import choose, use

# isort: split
from polytask.cli.app import app, say
from polytask.errors import Interrupted, PolytaskError, ProcessLost, UserError, missing_extra
from polytask.launch import DEVICE_LOST, follow
from polytask.signals import ignore_saving

__all__ = ["SPINS", "app", "begin", "choose", "main", "train", "use"]

# How often a waiting libgomp thread checks for work before it yields its core. The default of 300,000 keeps the core
# from other processes.
SPINS = "3000"
# Numbers of glibc's options of malloc (malloc.h), and the largest values that it accepts.
_TRIM, _MMAP = -1, -3
_NEVER, _LARGEST = 2**31 - 1, 32 << 20


def main() -> None:
    """Run the command line, and exit with the documented codes."""
    follow()
    ignore_saving()
    _share_cores()
    _keep_memory()
    try:
        app()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = missing_extra(error, "this command")
        if missing is None:
            raise
        say(f"error: {missing}")
        sys.exit(2)
    except Interrupted as error:
        say(str(error))
        sys.exit(130)
    except ProcessLost as error:
        sys.exit(_lost(error))
    except PolytaskError as error:
        say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # errors of the system without a specific message
        place = "" if error.filename is None else f"{error.filename}: "
        say(f"error: {place}{error.strerror or error}")
        sys.exit(2 if place else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _lost(error: ProcessLost) -> int:
    """Report the lost process, and return the exit code."""
    if error.code == DEVICE_LOST:  # of any process; a kernel may have failed there
        traceback.print_exception(error.__cause__)
    say(f"error: {error}")
    return error.code if "RANK" in os.environ else 1


def _share_cores() -> None:
    """Let waiting threads yield their core early, unless the user set this; must run before torch is loaded."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def _keep_memory() -> None:
    """Let malloc keep freed memory for the next update, unless the user set it up otherwise.

    By default glibc returns it to the system, which then has to clear every page again: 7,000 of them in an update of
    MiniLM on 8 short texts, 6 to 10 % of its time. Other C libraries have no such setting.
    """
    if sys.platform == "linux" and not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP, _LARGEST)
            mallopt(_TRIM, _NEVER)
