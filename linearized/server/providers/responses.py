"""How the room's answers are said in MIMI: one table from reasons to codes, and the response structures."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from linearized.mimi.handshake import UpdateResponseCode, UpdateRoomResponse
from linearized.mimi.messages import Frank, SubmitMessageResponse, SubmitResponseCode
from linearized.room.submissions import Reason, Rejected

UPDATE_CODES: Final = MappingProxyType(
    {
        Reason.MALFORMED: UpdateResponseCode.INVALID_PROPOSAL,
        Reason.TOO_LARGE: UpdateResponseCode.NOT_ALLOWED,
        Reason.BAD_SIGNATURE: UpdateResponseCode.NOT_ALLOWED,
        Reason.FORBIDDEN: UpdateResponseCode.NOT_ALLOWED,
        Reason.WRONG_EPOCH: UpdateResponseCode.WRONG_EPOCH,
        Reason.INVALID_COMMIT: UpdateResponseCode.INVALID_PROPOSAL,
        Reason.INVALID_PROPOSAL: UpdateResponseCode.INVALID_PROPOSAL,
        Reason.UNKNOWN_ROOM: UpdateResponseCode.NOT_ALLOWED,
        Reason.WRONG_HUB: UpdateResponseCode.NOT_ALLOWED,
    }
)


def update_accepted(accepted_at: int) -> UpdateRoomResponse:
    """``success`` with the hub's acceptance time."""
    return UpdateRoomResponse(code=UpdateResponseCode.SUCCESS, accepted_timestamp=accepted_at)


def update_rejected(error: Rejected) -> UpdateRoomResponse:
    """The code the draft has for the reason, with the data that goes with it."""
    code = UPDATE_CODES[error.code]
    return UpdateRoomResponse(
        code=code,
        description=str(error),
        current_epoch=error.current_epoch if code is UpdateResponseCode.WRONG_EPOCH else None,
        invalid_proposals=error.invalid_proposals if code is UpdateResponseCode.INVALID_PROPOSAL else (),
    )


def submit_accepted(accepted_at: int, frank: Frank | None) -> SubmitMessageResponse:
    """``accepted`` with the hub's acceptance time and its stamp, if the message is franked."""
    return SubmitMessageResponse(
        code=SubmitResponseCode.ACCEPTED, accepted_timestamp=accepted_at, frank=frank
    )


def submit_rejected(error: Rejected, *, message_epoch: int | None) -> SubmitMessageResponse:
    """``epochTooOld`` only for an epoch that has passed: one "more recent than the hub's" is
    ``notAllowed``.
    """
    current = error.current_epoch
    if error.code is Reason.WRONG_EPOCH and current is not None and (message_epoch or 0) < current:
        return SubmitMessageResponse(code=SubmitResponseCode.EPOCH_TOO_OLD, current_epoch=current)
    return SubmitMessageResponse(code=SubmitResponseCode.NOT_ALLOWED)
