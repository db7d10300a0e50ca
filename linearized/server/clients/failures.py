"""What a client hears when not it but another server, or the load on this one, is the reason."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from linearized.server.deciding import Overloaded
from linearized.server.http import HttpError
from linearized.server.outbound import OutboundError
from linearized.server.providers.client import ProviderError

# What a client waits before it asks an overloaded room again: about the time the hub needs for what was
# queued.
RETRY_AFTER_MS: Final = 1000
# The longest pause passed on from another provider: an hour; whoever asks for more has closed to us.
MAX_RETRY_AFTER_MS: Final = 3_600_000
# Refusals by another server that are about what the client asked for. Any other, above all its 401, would
# tell the client something untrue about its own session.
PASSED_ON: Final = {
    "M_FORBIDDEN": 403,
    "M_NOT_FOUND": 404,
    "M_INCOMPATIBLE_ROOM_VERSION": 400,
    "M_UNABLE_TO_AUTHORISE_JOIN": 400,
    "M_UNABLE_TO_GRANT_JOIN": 400,
    "M_WRONG_SERVER": 400,
}


def as_client_error(error: Exception) -> HttpError:
    """429 when a room is overloaded; a peer's own refusal if it has one; 502 for a peer that failed, 504 for
    none.
    """
    if isinstance(error, Overloaded):
        return HttpError(429, "M_LIMIT_EXCEEDED", str(error), retry_after_ms=RETRY_AFTER_MS)
    if isinstance(error, ProviderError) and error.status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = error.retry_after_s
        wait_ms = RETRY_AFTER_MS if wait is None else min(int(wait * 1000), MAX_RETRY_AFTER_MS)
        return HttpError(429, "M_LIMIT_EXCEEDED", str(error), retry_after_ms=wait_ms)
    if isinstance(error, OutboundError) and error.errcode in PASSED_ON:
        return HttpError(PASSED_ON[error.errcode], error.errcode, str(error))
    if str(error):
        return HttpError(502, "M_UNKNOWN", str(error))
    return HttpError(504, "M_UNKNOWN", "The room's hub did not answer in time")
