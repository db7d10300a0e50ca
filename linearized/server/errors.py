"""One table from what went wrong to what a Matrix face answers: status and error code.

The MIMI faces have their own table; nothing outside the two knows about either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import trio

from linearized.exceptions import (
    AuthorizationError,
    CanonicalJsonError,
    EventFormatError,
    HashMismatch,
    IdentifierError,
    InvalidInput,
    MimiDecodeError,
    SignatureError,
)
from linearized.mimi.metadata_policy import MetadataPolicyError
from linearized.room.submissions import Reason, Rejected
from linearized.server.deciding import Overloaded
from linearized.server.exchange import OutboundError
from linearized.server.http import HttpError, Response, json_response
from linearized.server.keys import Crowded
from linearized.server.providers.client import ProviderError

REASONS: Mapping[Reason, tuple[int, str]] = {
    Reason.MALFORMED: (400, "M_BAD_JSON"),
    Reason.TOO_LARGE: (413, "M_TOO_LARGE"),
    Reason.BAD_SIGNATURE: (403, "M_FORBIDDEN"),
    Reason.FORBIDDEN: (403, "M_FORBIDDEN"),
    Reason.WRONG_EPOCH: (409, "M_WRONG_EPOCH"),
    Reason.INVALID_COMMIT: (400, "M_INVALID_PARAM"),
    Reason.INVALID_PROPOSAL: (400, "M_INVALID_PARAM"),
    Reason.UNKNOWN_ROOM: (404, "M_NOT_FOUND"),
    Reason.WRONG_HUB: (400, "M_WRONG_SERVER"),
}

# Looked up along the class's ancestors, so the most specific row wins.
INPUTS: Mapping[type[InvalidInput], tuple[int, str]] = {
    AuthorizationError: (403, "M_FORBIDDEN"),
    MetadataPolicyError: (403, "M_FORBIDDEN"),
    SignatureError: (403, "M_FORBIDDEN"),
    HashMismatch: (400, "M_BAD_JSON"),
    CanonicalJsonError: (400, "M_BAD_JSON"),
    EventFormatError: (400, "M_BAD_JSON"),
    IdentifierError: (400, "M_INVALID_PARAM"),
    MimiDecodeError: (400, "M_BAD_JSON"),
    InvalidInput: (400, "M_BAD_JSON"),
}


# Statuses of another server that say something about the request, not about that server or our signature.
PASSED_ON = frozenset({400, 403, 404, 409, 413, 429})
OVERLOAD_RETRY_MS = 1000  # a room decides a full queue in about that time


def as_http_error(error: BaseException) -> HttpError | None:
    """The HTTP face of an error somebody else caused; None for one that is ours.

    A handler that opened a nursery raises its one error wrapped in groups; they are taken off.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    translate = next((FACES[kind] for kind in type(error).__mro__ if kind in FACES), None)
    return translate(error) if translate is not None else None


def _input(error: InvalidInput) -> HttpError:
    status, errcode = next(INPUTS[kind] for kind in type(error).__mro__ if kind in INPUTS)
    return HttpError(status, errcode, str(error))


def _rejected(error: Rejected) -> HttpError:
    status, errcode = REASONS[error.code]
    if error.current_epoch is not None:
        return HttpError(status, errcode, str(error), current_epoch=error.current_epoch)
    return HttpError(status, errcode, str(error))


def _refused_elsewhere(error: OutboundError) -> HttpError:
    """What another server said to a request made for this one: refusals are passed on, failures not."""
    if error.errcode is not None and error.status is not None and error.status in PASSED_ON:
        return HttpError(error.status, error.errcode, str(error))
    return HttpError(502, "M_UNKNOWN", str(error))


# Looked up along the class's ancestors, so the most specific row wins.
FACES: Mapping[type, Callable[[Any], HttpError]] = {
    HttpError: lambda error: error,
    Rejected: _rejected,
    InvalidInput: _input,
    OutboundError: _refused_elsewhere,
    ProviderError: lambda error: HttpError(502, "M_UNKNOWN", str(error)),
    Overloaded: lambda error: HttpError(
        429, "M_LIMIT_EXCEEDED", str(error), retry_after_ms=OVERLOAD_RETRY_MS
    ),
    Crowded: lambda error: HttpError(429, "M_LIMIT_EXCEEDED", str(error), retry_after_ms=OVERLOAD_RETRY_MS),
    trio.TooSlowError: lambda _: HttpError(
        504, "M_UNKNOWN", "It took too long; whether it was done will show"
    ),
}


def error_response(error: HttpError) -> Response:
    """Encode a Matrix error object (draft, "Errors"); ``retry_after_ms`` is also the Retry-After header."""
    response = json_response({"errcode": error.errcode, "error": error.error, **error.extra}, error.status)
    wait = error.extra.get("retry_after_ms")
    if isinstance(wait, int):
        # Whole seconds (RFC 9110, section 10.2.3), never fewer than it takes.
        return replace(response, headers=(*response.headers, ("retry-after", str(-(-wait // 1000)))))
    return response
