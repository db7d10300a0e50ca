"""Structured logs: one JSON object per line on standard error, never message content, never a token.

Values worth logging are names (rooms, servers, users, event IDs), counts and times. Exceptions are logged by
type and place, not by text: an exception's text may quote what a user wrote.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, BinaryIO, TypeAlias, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

Log: TypeAlias = FilteringBoundLogger

MAX_FRAMES = 12  # innermost frames worth logging of an unexpected exception


def _to_json(event: dict[str, Any], **_options: object) -> bytes:
    return orjson.dumps(event, default=str)


class _StandardError:
    """Standard error as it is when a line is written: it may have been redirected since then."""

    def write(self, line: bytes) -> None:
        sys.stderr.buffer.write(line)

    def flush(self) -> None:
        sys.stderr.buffer.flush()


def configure(level: int = logging.INFO, stream: BinaryIO | None = None) -> None:
    """Send the package's logs at or above ``level`` to ``stream`` (standard error by default)."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=cast("BinaryIO", stream or _StandardError())),
        cache_logger_on_first_use=False,
    )


def get_log(**names: object) -> Log:
    """A logger that carries ``names`` on every line."""
    log: Log = structlog.get_logger(**names)
    return log


def describe(error: BaseException) -> dict[str, Any]:
    """Type and place of an exception, for a log line; leaves of a group are listed, no text is."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    description: dict[str, Any] = {
        "exception": type(error).__name__,
        "at": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, BaseExceptionGroup):
        description["causes"] = [describe(inner) for inner in error.exceptions]
    return description
