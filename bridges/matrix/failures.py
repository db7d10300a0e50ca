"""What to do when something does not work: try again, try a few times, or go on without it."""

from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Awaitable, Callable

import structlog
import trio

from bridges.matrix.content import NotBridged
from linearized.client import ApiError, CommitLost, MlsError, NotInGroup, ServerUnreachable, WrongEpochError
from linearized.exceptions import LinearizedError

# The pause after either side was away. Long enough not to hammer it, short enough for people who wait.
RETRY_PAUSE = 5.0
# Tries of what may heal by itself, such as a client that has to rejoin its group first: about a minute of
# them.
MAX_TRIES = 12
# The longest a server that limits us is believed: a mistaken one must not silence a room for a day.
MAX_PAUSE = 3600.0
_SERVER_ERROR = 500
_TOO_MANY = 429

# Everything that one event or item can bring about; anything else is a fault of the bridge or its machine.
EXPECTED = (LinearizedError, MlsError)

log = structlog.get_logger(__name__)


def is_passing(error: Exception) -> bool:
    """Whether one of the two sides is away or busy: it will come back, and nothing can be done before."""
    if isinstance(error, ApiError):
        return error.status >= _SERVER_ERROR or error.status == _TOO_MANY
    return isinstance(error, ServerUnreachable)


def may_heal(error: Exception) -> bool:
    """Whether trying again soon may help, though nobody is away."""
    return isinstance(error, CommitLost | NotInGroup | WrongEpochError)


def pause_after(error: Exception) -> float:
    """Seconds to wait before the next try: as long as the server asks for ("Retry-After"), within reason."""
    asked = error.retry_after if isinstance(error, ApiError) else 0.0
    return min(max(RETRY_PAUSE, asked), MAX_PAUSE)


async def carried(work: Callable[[], Awaitable[None]]) -> str | None:
    """Do something until it works; returns why it cannot, ``None`` when it is done.

    A fault of our own that one event brings about is a reason, too: whatever is behind that event must not
    wait for us to mend it. A machine that fails (its disk, its memory) stops the bridge all the same.

    Raises:
        NotBridged: as ``work`` does.
    """
    try:
        error = await persist(work)
    except (NotBridged, sqlite3.Error, OSError, MemoryError):
        raise
    except Exception as fault:  # noqa: BLE001 - said above; there is no list of the faults we do not know
        return describe(fault)
    return None if error is None else describe(error)


def describe(fault: BaseException) -> str:
    """What to say of something that went wrong. The text of a fault that nobody foresaw may quote a message;
    its kind and place do not.
    """
    if isinstance(fault, BaseExceptionGroup):
        return ", ".join(describe(one) for one in fault.exceptions)
    if isinstance(fault, EXPECTED):
        return f"{type(fault).__name__}: {fault}"
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(fault).__name__}{where}"


async def persist(work: Callable[[], Awaitable[None]]) -> Exception | None:
    """Do something until it works; returns the error it cannot work for, ``None`` when it is done."""
    tries = 0
    while True:
        try:
            await work()
        except EXPECTED as error:
            tries += 1
            if not is_passing(error) and not (may_heal(error) and tries < MAX_TRIES):
                return error
            pause = pause_after(error)
            log.warning("waiting", error=f"{type(error).__name__}: {error}", seconds=pause)
            await trio.sleep(pause)
        else:
            return None
