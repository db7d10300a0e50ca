"""What to do when something does not work: try again, try a few times, or go on without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from linearized.client import ApiError, CommitLost, MlsError, NotInGroup, ServerUnreachable, WrongEpochError
from linearized.exceptions import LinearizedError

# The pause after either side was away. Long enough not to hammer it, short enough for people who wait.
RETRY_PAUSE = 5.0
# Tries of what may heal by itself, such as a client that has to rejoin its group first: about a minute of
# them.
MAX_TRIES = 12
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
            log.warning("waiting", error=f"{type(error).__name__}: {error}")
            await trio.sleep(RETRY_PAUSE)
        else:
            return None
