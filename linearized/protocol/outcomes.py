"""What becomes of a received event that fails a check (draft, Receiving Events/PDUs; Sending Events).

``linearized.room.refusals`` says which of these an error stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Outcome(StrEnum):
    """What a server does with an event.

    Draft, Conventions and Definitions: "An event which is "rejected" is not relayed to any local clients and
    is not appended to the room in any way." "An event which is "soft-failed" SHOULD NOT be relayed to any
    local clients, nor be used as in auth_events if possible. The event is otherwise appended to the room as
    per usual." What is dropped is ignored: nothing is appended, and the sender is not told either ("Events
    which are dropped/ignored or accepted do not appear in failed_pdus").
    """

    ACCEPTED = "accepted"
    REDACTED = "redacted"
    SOFT_FAILED = "soft-failed"
    REJECTED = "rejected"
    DROPPED = "dropped"


class Check(StrEnum):
    """The checks an event goes through, in the draft's order."""

    ROOM = "the room is known"
    PARTICIPATING = "the server participates in the room"
    HUB = "an LPDU is sent to a hub"
    SCHEMA = "the schema of the room version"
    SIGNATURES = "the required signatures"
    CONTENT_HASH = "the content hashes"
    LPDU_HASH = "the content hash of an LPDU, at the hub"
    RULES = "the authorization rules"
    LPDU_GROUP = "the MLS constraints, of an LPDU"
    PDU_GROUP = "the MLS constraints, of a PDU"


OUTCOMES: Mapping[Check, Outcome] = MappingProxyType(
    {
        # "If that room ID is invalid/not found, the event is rejected."
        Check.ROOM: Outcome.REJECTED,
        # "If the server is not participating in the room, the event is dropped/skipped."
        Check.PARTICIPATING: Outcome.DROPPED,
        # "If the event is an LPDU and the receiving server is not the hub, the event is dropped/skipped."
        Check.HUB: Outcome.DROPPED,
        # "Verify the event matches the schema for the room version … it is dropped/ignored."
        Check.SCHEMA: Outcome.DROPPED,
        # "Ensure the required signatures are present and that they are valid … it is dropped/ignored."
        Check.SIGNATURES: Outcome.DROPPED,
        # "If either the LPDU or PDU content hash doesn't match what the receiving server calculations, the
        # event is redacted before further processing. The server will ultimately persist the redacted copy."
        Check.CONTENT_HASH: Outcome.REDACTED,
        # Ours: a hub would sign a redacted event in the participant's name, who is there to be told.
        Check.LPDU_HASH: Outcome.REJECTED,
        # "If the event is improperly signed, reject the event" and so on.
        Check.RULES: Outcome.REJECTED,
        # "If this validation fails, the hub server MUST reject the request if it's shaped as an LPDU and
        # soft-fail the event if it's a PDU."
        Check.LPDU_GROUP: Outcome.REJECTED,
        Check.PDU_GROUP: Outcome.SOFT_FAILED,
    }
)
"""What failing each check leads to."""
