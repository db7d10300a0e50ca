"""The events of a room that are no handshakes: local ones, a participant's, messages of MIMI providers, and
what the hub itself does for a parent room's sake.
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import IdentifierError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import hub_user, user_id_from_uri
from linearized.protocol.state import HUB
from linearized.room.admission import COMMIT, COMMIT_PART, ENCRYPTED, PROPOSAL
from linearized.room.draft import Draft
from linearized.room.log import RoomLog
from linearized.room.parents import strays
from linearized.room.provenance import Provenance
from linearized.room.replays import Fingerprint
from linearized.room.speakers import Speakers
from linearized.room.submissions import ApplicationMessage, LinearizedPdu, LocalEvent, Reason, Rejected

MAX_STRAYS: Final = 100
"""Taken out of a room at once because they have left its parent: an event each, which others wait behind."""


def local_event(log: RoomLog, speakers: Speakers, submission: LocalEvent, *, now: int) -> Draft:
    """Draft an event of a user of ours, or of one we vouch for.

    Raises:
        Rejected: it is refused.
    """
    speakers.check_local(submission)
    if submission.type in {COMMIT, COMMIT_PART, PROPOSAL}:
        raise Rejected(Reason.FORBIDDEN, "Handshake messages are submitted as a bundle")
    draft = log.draft()
    if submission.type == ENCRYPTED:
        draft.message = _check_ciphertext(log, submission.content, submission.sender)
    draft.write(
        sender=submission.sender,
        event_type=submission.type,
        content=submission.content,
        now=submission.origin_server_ts if submission.origin_server_ts is not None else now,
        state_key=submission.state_key,
        provenance=submission.provenance,
    )
    log.check_policy(draft)
    return draft


def participant_event(log: RoomLog, submission: LinearizedPdu) -> Draft:
    """Draft the event that a participant's LPDU becomes; a commit is ``Handshakes.take_event``'s.

    Raises:
        Rejected: it is refused.
    """
    lpdu = submission.pdu
    check_addressed(log, lpdu)
    if lpdu["type"] in {COMMIT_PART, PROPOSAL}:
        raise Rejected(Reason.FORBIDDEN, "Handshake messages are submitted as a bundle")
    # The rules leave it to the hub whether to sign: nobody takes a room from it by sending an event.
    if log.version.hub_transfers and lpdu["type"] == HUB[0] and not submission.transfer:
        raise Rejected(Reason.FORBIDDEN, "A transfer is arranged with the hub's operator")
    draft = log.draft()
    if lpdu["type"] == ENCRYPTED:
        draft.message = _check_ciphertext(log, lpdu["content"], lpdu["sender"])
        # The sender "MUST send an event with content matching": algorithm, ciphertext, commit_event_id.
        # Which commit that is only members can tell for sure: a Welcome by MIMI does not name its event.
        if not isinstance(lpdu["content"].get("commit_event_id"), str):
            raise Rejected(Reason.MALFORMED, "content.commit_event_id is missing")
    draft.complete(submission.lpdu)
    log.check_policy(draft)
    return draft


def check_addressed(log: RoomLog, lpdu: JsonObject) -> None:
    """Check that an LPDU is for this room, and for us as its hub.

    Raises:
        Rejected: ``UNKNOWN_ROOM`` or ``WRONG_HUB``.
    """
    if lpdu["room_id"] != log.room_id:
        raise Rejected(Reason.UNKNOWN_ROOM, "The event is for another room")
    if lpdu.get("hub_server") != log.identity.name:
        raise Rejected(Reason.WRONG_HUB, "hub_server names another server")


def application_message(
    log: RoomLog, speakers: Speakers, submission: ApplicationMessage, *, now: int
) -> Draft:
    """Draft the event of an application message that a MIMI provider submits.

    Raises:
        Rejected: it is refused.
    """
    try:
        sender = user_id_from_uri(submission.sending_uri)
    except IdentifierError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
    speakers.check_provider(sender, submission.provider)
    algorithm = log.require_encryption()
    message = log.group.check_message(submission.message, sender=sender)
    content: JsonObject = {
        "algorithm": algorithm,
        "ciphertext": encode_base64(submission.message),
        "commit_event_id": log.group.last_commit_id,
    }
    draft = log.draft()
    draft.message = message
    draft.write(
        sender=sender,
        event_type=ENCRYPTED,
        content=content,
        now=now,
        provenance=Provenance(submission.message, hub=log.identity.name).of(sender),
    )
    log.check_policy(draft)
    return draft


def parent_removals(log: RoomLog, *, now: int) -> Draft:
    """Draft the removal of who is not in the parent room; their clients go with the next commit. No policy
    keeps them: also a room whose participants are fixed has none that its parent has not.

    Raises:
        Rejected: ``FORBIDDEN``, there is nobody to remove.
    """
    draft = log.draft()
    for user_id in strays(log.state, log.parents)[:MAX_STRAYS]:
        draft.write(
            sender=hub_user(log.identity.name),
            event_type="m.room.member",
            content={"membership": "leave"},
            now=now,
            state_key=user_id,
        )
    if not draft.entries:
        raise Rejected(Reason.FORBIDDEN, "Everybody in the room is in its parent room")
    return draft


def _check_ciphertext(log: RoomLog, content: JsonObject, sender: str) -> Fingerprint:
    return log.group.check_ciphertext(content, algorithm=log.require_encryption(), sender=sender)
