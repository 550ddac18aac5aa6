"""The log: one JSON object per line to stderr, without any content of the texts."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

LOG = logging.getLogger("polytask.serving")


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, event, and further fields.

    For exceptions only the class and the code locations are included, since the message could quote a text.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info is not None and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(record.exc_info[2])]
        return json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)


def write_json_lines() -> None:
    """Send our log, and uvicorn's and Python's warnings, to stderr as JSON lines."""
    logging.captureWarnings(True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (
        ("polytask.serving", logging.INFO),
        ("uvicorn", logging.WARNING),
        ("py.warnings", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def log_event(event: str, **fields: object) -> None:
    """Log one event."""
    LOG.info(event, extra={"fields": fields})
