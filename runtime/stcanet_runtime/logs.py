"""What the runtime has to say while it runs, by the logger "stcanet_runtime".

Where nobody has set up logging Python writes warnings and errors to stderr, and nothing else.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from stcanet_runtime.errors import OptionError, quote_choices

LEVELS = ("debug", "info", "warning", "error")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object for each record: time (UTC), level, logger, message, and what was given as ``extra=``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts, default=str)


def log_to_stderr(level: str = "info", as_json: bool = False) -> None:
    """Write what the runtime logs to stderr; for programs, not for libraries.

    Args:
        level: One of `LEVELS`.
        as_json: As JSON lines instead of text.

    Raises:
        OptionError: There is no such level.
    """
    if level not in LEVELS:
        raise OptionError("level", level, quote_choices(LEVELS))
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("stcanet_runtime")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
