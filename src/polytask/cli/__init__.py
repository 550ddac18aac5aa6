"""The command line: results to stdout, progress and messages to stderr.

Exit codes: 0 done, 1 our fault, 2 the input, 130 stopped after saving. One of several processes that has lost its
device, or cannot reach the others, tells the one that started it (`polytask.launch`).
"""

from __future__ import annotations

import os
import sys
import traceback

# They add their commands, which `--help` lists in this order.
from polytask.cli import begin, train

# isort: split
from polytask.cli import choose, use

# isort: split
from polytask.cli.app import app, say
from polytask.errors import Interrupted, PolytaskError, ProcessLost, UserError, missing_extra
from polytask.launch import DEVICE_LOST, follow
from polytask.signals import ignore_saving

__all__ = ["SPINS", "app", "begin", "choose", "main", "train", "use"]

# How often a waiting thread of libgomp looks for work before it gives up its core. Its own default is 300,000, which
# takes the core away from whatever else runs there.
SPINS = "3000"


def main() -> None:
    """Run the command line with the exit codes of the contract."""
    follow()
    ignore_saving()
    _share_cores()
    try:
        app()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        found = missing_extra(error, "this command")
        if found is None:
            raise
        say(f"error: {found}")
        sys.exit(2)
    except Interrupted as error:
        say(str(error))
        sys.exit(130)
    except ProcessLost as error:
        sys.exit(_lost(error))
    except PolytaskError as error:
        say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # what the system refuses, where no message of its own says what to do
        place = "" if error.filename is None else f"{error.filename}: "
        say(f"error: {place}{error.strerror or error}")
        sys.exit(2 if place else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _lost(error: ProcessLost) -> int:
    """Tell what was lost, and return the exit code."""
    if error.code == DEVICE_LOST:  # of whichever process; what failed there may be a kernel
        traceback.print_exception(error.__cause__)
    say(f"error: {error}")
    return error.code if "RANK" in os.environ else 1


def _share_cores() -> None:
    """Let threads that wait give up their core soon, unless the user has said how they wait; before torch is loaded."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS
