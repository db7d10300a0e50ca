"""Which outcome of the draft an error stands for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from linearized.exceptions import (
    AuthorizationError,
    CanonicalJsonError,
    EventFormatError,
    HashMismatch,
    IdentifierError,
    InvalidInput,
    SignatureError,
)
from linearized.protocol.outcomes import OUTCOMES, Check, Outcome
from linearized.room.submissions import Rejected

# Looked up along the class's ancestors, so the most specific row wins.
_CHECKS: Mapping[type[InvalidInput], Check] = MappingProxyType(
    {
        EventFormatError: Check.SCHEMA,
        CanonicalJsonError: Check.SCHEMA,
        IdentifierError: Check.SCHEMA,
        SignatureError: Check.SIGNATURES,
        HashMismatch: Check.LPDU_HASH,
        AuthorizationError: Check.RULES,
        InvalidInput: Check.RULES,
    }
)


def outcome_of(error: InvalidInput) -> Outcome:
    """What becomes of the event that caused an error: ``REJECTED`` or ``DROPPED``.

    A refusal by the room says it itself; an error of a protocol check follows from its type.
    """
    if isinstance(error, Rejected):
        return error.outcome
    return OUTCOMES[next(_CHECKS[kind] for kind in type(error).__mro__ if kind in _CHECKS)]
