"""Which outcome of the draft each error stands for."""

from __future__ import annotations

import pytest

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
from linearized.protocol.outcomes import OUTCOMES, Check, Outcome
from linearized.room.refusals import outcome_of
from linearized.room.submissions import Reason, Rejected


def test_every_check_has_its_outcome() -> None:
    assert OUTCOMES.keys() == set(Check)
    assert {check for check, outcome in OUTCOMES.items() if outcome is Outcome.DROPPED} == {
        Check.PARTICIPATING,
        Check.HUB,
        Check.SCHEMA,
        Check.SIGNATURES,
    }
    assert {check for check, outcome in OUTCOMES.items() if outcome is Outcome.REJECTED} == {
        Check.ROOM,
        Check.LPDU_HASH,
        Check.RULES,
        Check.LPDU_GROUP,
    }
    assert OUTCOMES[Check.CONTENT_HASH] is Outcome.REDACTED
    assert OUTCOMES[Check.PDU_GROUP] is Outcome.SOFT_FAILED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EventFormatError("x"), Outcome.DROPPED),
        (CanonicalJsonError("x"), Outcome.DROPPED),
        (IdentifierError("x"), Outcome.DROPPED),
        (SignatureError("x"), Outcome.DROPPED),
        (HashMismatch("x"), Outcome.REJECTED),
        (AuthorizationError("6", "x"), Outcome.REJECTED),
        (MimiDecodeError("x"), Outcome.REJECTED),
        (InvalidInput("x"), Outcome.REJECTED),
        (Rejected(Reason.FORBIDDEN, "x"), Outcome.REJECTED),
        (Rejected(Reason.MALFORMED, "x", outcome=Outcome.DROPPED), Outcome.DROPPED),
    ],
)
def test_an_error_says_what_becomes_of_its_event(error: InvalidInput, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome
