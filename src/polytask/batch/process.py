"""A worker process: receives shards on stdin, sends predictions to stdout, and ends with its parent process."""

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
    """Predict shards from stdin, and send the results to stdout. None instead of a shard ends the process."""
    follow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # output of libraries goes to stderr
    connection = Connection(os.dup(0), writable=False)
    options: WorkOptions
    options, place = connection.recv()
    try:
        predictor = ShardPredictor(options, place)
        out.send(predictor.facts)
        shards: SimpleQueue[Shard | None] = SimpleQueue()
        stopping = threading.Event()
        threading.Thread(target=_read_ahead, args=(connection, shards, stopping), daemon=True, name="shards").start()
        while (shard := shards.get()) is not None and not stopping.is_set():
            out.send(predictor.answer(shard))
    except PolytaskError as error:
        out.send(Failure.of(error))
        sys.exit(1)


def _read_ahead(connection: Connection, shards: SimpleQueue[Shard | None], stopping: threading.Event) -> None:
    """Receive shards while others are being predicted, so that the sender does not have to wait."""
    while True:
        try:
            shard = connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # the parent process has ended
            shard = None
        if shard is None:
            stopping.set()
            shards.put(None)
            return
        shards.put(shard)


if __name__ == "__main__":
    main()
