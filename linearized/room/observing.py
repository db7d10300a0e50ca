"""What a participant can check of the events of an encrypted room without holding the room's MLS tree.

A hub stages every commit on the public group (``commits``, ``tie``). A participant that came in the middle
has no tree to do that with; whom a commit adds by value, and what an encrypted room may hold at all, it can
still hold the hub to. Not its epoch: which epoch the group is in only verified commits tell, and what an
unverified one claims must not decide about those after it.
"""

from __future__ import annotations

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.commit_parts import CommitParts, commit_parts, leaf_credential
from linearized.mimi.mls_framing import walk_public_handshake, walk_public_proposal
from linearized.mimi.tls import Reader
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.state import StateMap, membership
from linearized.protocol.visibility import is_world_readable
from linearized.room.admission import COMMIT, PROPOSAL, admit, encryption_algorithm
from linearized.room.content import binary
from linearized.room.credentials import client_of
from linearized.room.proposals import messages_of
from linearized.room.pseudonymity import check_credentials
from linearized.room.submissions import Reason, Rejected


def check_group_event(event: Event, content: JsonObject, state: StateMap) -> None:
    """Check an event that the authorization rules allow against what an encrypted room takes.

    Args:
        content: the event's; of a commit that has parts, with what they hold.
        state: the room's state before it.

    Raises:
        Rejected: the hub should not have taken it. "If this validation fails, the hub server MUST … soft-fail
            the event if it's a PDU" (draft, Updating Group State).
    """
    admit(event, state)
    if event.type not in {COMMIT, PROPOSAL}:
        return
    if encryption_algorithm(state) is None:
        raise Rejected(Reason.FORBIDDEN, "The room is not encrypted")
    try:
        if event.type == PROPOSAL:
            _check_proposals(content)
            return
        _check_added(public_commit(content), event.sender, state)
    except (MimiDecodeError, IdentifierError) as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error


def public_commit(content: JsonObject) -> CommitParts:
    """Take apart the commit in the content of an ``m.mls.commit``.

    Raises:
        Rejected: a part of the content is missing or not base64.
        MimiDecodeError: ``message`` is not a PublicMessage with a commit.
    """
    # Draft, m.mls.commit: "content for the event MUST contain at least" message and public_group_state.
    message = binary(content, "message")
    binary(content, "public_group_state")
    # "commits to the MLS Group MUST use PublicMessage, giving the hub server an ability to inspect MLS group
    # membership changes for illegal joins and leaves."
    reader = Reader(message)
    walk_public_handshake(reader)
    reader.finish()
    return commit_parts(message)


def _check_proposals(content: JsonObject) -> None:
    for message in messages_of(content):
        reader = Reader(message)
        walk_public_proposal(reader)
        reader.finish()


def _check_added(parts: CommitParts, sender: str, state: StateMap) -> None:
    # "Devices can only be added to the group if they belong to a user which is joined to the room, or if the
    # room is "world readable"."
    credentials = list(map(leaf_credential, parts.key_packages))
    added = list(map(client_of, credentials))
    if parts.joiner is not None:
        credentials.append(parts.joiner)
        joiner = client_of(parts.joiner)
        if joiner.user_id != sender:
            raise Rejected(Reason.FORBIDDEN, "The commit was made by another user than the event's sender")
        added.append(joiner)
    check_credentials(credentials, state)
    for client in added:
        if membership(state, client.user_id) != "join" and not is_world_readable(state):
            raise Rejected(Reason.FORBIDDEN, f"{client.user_id} is not joined to the room")
