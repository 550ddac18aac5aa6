"""A worker as a process: shards come by stdin, answers go to stdout, and it ends with the process that started it."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue

from polytask.batch.shards import Shard
from polytask.batch.worker import Failure, ShardPredictor, WorkOptions
from polytask.errors import PolytaskError
from polytask.launch import follow


def main() -> None:
    """Answer the shards that stdin brings; what comes out goes to stdout. None in place of a shard ends it."""
    follow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # what a library prints is for people
    given = Connection(os.dup(0), writable=False)
    options: WorkOptions
    options, place = given.recv()
    try:
        predictor = ShardPredictor(options, place)
        out.send(predictor.facts)
        shards: SimpleQueue[Shard | None] = SimpleQueue()
        stopping = threading.Event()
        threading.Thread(target=_read_ahead, args=(given, shards, stopping), daemon=True, name="shards").start()
        while (shard := shards.get()) is not None and not stopping.is_set():
            out.send(predictor.answer(shard))
    except PolytaskError as error:
        out.send(Failure.of(error))
        sys.exit(1)


def _read_ahead(connection: Connection, shards: SimpleQueue[Shard | None], stopping: threading.Event) -> None:
    """Take shards while others are being answered, so that whoever hands them out need not wait."""
    while True:
        try:
            shard = connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # whoever started this has ended
            shard = None
        if shard is None:
            stopping.set()
            shards.put(None)
            return
        shards.put(shard)


if __name__ == "__main__":
    main()
