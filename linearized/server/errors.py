"""One table from what went wrong to what a Matrix face answers: status and error code.

The MIMI faces have their own table; nothing outside the two knows about either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from linearized.room.submissions import Reason, Rejected
from linearized.server.http import HttpError, Response, json_response

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
    SignatureError: (403, "M_FORBIDDEN"),
    HashMismatch: (400, "M_BAD_JSON"),
    CanonicalJsonError: (400, "M_BAD_JSON"),
    EventFormatError: (400, "M_BAD_JSON"),
    IdentifierError: (400, "M_INVALID_PARAM"),
    MimiDecodeError: (400, "M_BAD_JSON"),
    InvalidInput: (400, "M_BAD_JSON"),
}


def as_http_error(error: InvalidInput) -> HttpError:
    """The HTTP face of an error a peer or client caused."""
    if isinstance(error, Rejected):
        status, errcode = REASONS[error.code]
        extra: dict[str, Any] = {}
        if error.current_epoch is not None:
            extra["current_epoch"] = error.current_epoch
        return HttpError(status, errcode, str(error), **extra)
    status, errcode = next(INPUTS[kind] for kind in type(error).__mro__ if kind in INPUTS)
    return HttpError(status, errcode, str(error))


def error_response(error: HttpError) -> Response:
    """Encode a Matrix error object (draft, "Errors")."""
    return json_response({"errcode": error.errcode, "error": error.error, **error.extra}, error.status)
