"""What is proposed in a group and not committed yet, as a member sees it; and what a leaving member proposes.

"It already MUST send a Commit of pending Proposals before sending new application messages" (draft-ietf-mls-
extensions, SelfRemove), and a hub takes no commit without the removals that are pending.
"""

from __future__ import annotations

from collections.abc import Collection

import openmls

from linearized.client.identity import LeafOwner, leaf_owner
from linearized.exceptions import IdentifierError
from linearized.mimi.commit_parts import leaf_credential
from linearized.mimi.handshake import HandshakeBundle
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantChanges,
    ParticipantListData,
    ParticipantListUpdate,
    changes,
)
from linearized.protocol.identifiers import user_uri


def references(group: openmls.Group) -> set[bytes]:
    """The references of the pending proposals."""
    return {found.reference for found in group.pending_proposals() if found.reference is not None}


def leaving_leaves(group: openmls.Group) -> set[int]:
    """The leaves whose removal is pending."""
    return {found.removed_leaf for found in group.pending_proposals() if found.removed_leaf is not None}


def is_leaving(group: openmls.Group) -> bool:
    """Whether our own removal is pending: somebody else has to commit it, and we can send nothing more."""
    return group.own_leaf_index in leaving_leaves(group)


def arriving_clients(group: openmls.Group) -> set[bytes]:
    """The clients whose addition is pending, by their TLS-encoded Credentials."""
    found = set()
    for proposal in group.pending_proposals():
        if proposal.key_package is not None:
            found.add(leaf_credential(proposal.key_package))
    return found


def list_changes(group: openmls.Group) -> list[ParticipantChanges]:
    """What pending proposals do to the participant list; those that cannot be applied are left out."""
    before = ParticipantListData.decode(
        group.app_data().get(PARTICIPANT_LIST, ParticipantListData().encode())
    )
    found = []
    for proposal in group.pending_proposals():
        if proposal.component_id == PARTICIPANT_LIST and proposal.payload is not None:
            found.append(changes(before, ParticipantListUpdate.decode(proposal.payload)))
    return found


def drop(group: openmls.Group, named: Collection[bytes]) -> bool:
    """Forget those of the proposals with these references that a hub takes in no commit any more; whether
    there were any. Our own removal is never among them: it is for others to commit.
    """
    stale = [
        found.reference
        for found in group.pending_proposals()
        if found.reference in named and found.removed_leaf != group.own_leaf_index
    ]
    for reference in stale:
        if reference is not None:
            group.remove_pending_proposal(reference)
    return bool(stale)


def propose_leave(group: openmls.Group, owner: LeafOwner) -> bytes:
    """Propose that our user leaves; the HandshakeBundle for the hub, encoded.

    "The leaving client constructs MLS Remove proposals for all of the user's devices (including the leaving
    client), and an AppSync proposal that removes its user from the participant list" (MIMI protocol, Bob
    Leaves the Room). Our own is a SelfRemove, which joiners can commit as well.
    """
    gone = leaving_leaves(group)
    others = [
        member.leaf_index
        for member in group.members()
        if member.leaf_index not in gone | {group.own_leaf_index} and _is_of(member, owner)
    ]
    messages = [group.propose_self_remove(), *(group.propose_remove(leaf) for leaf in others)]
    if PARTICIPANT_LIST in group.app_data():
        listed = ParticipantListData.decode(group.app_data()[PARTICIPANT_LIST])
        index = listed.index_of(user_uri(owner.user_id))
        if index is not None:
            update = ParticipantListUpdate(removed=(index,))
            messages.append(group.propose_app_data_update(PARTICIPANT_LIST, update.encode()))
    return HandshakeBundle(message=messages[0], more_proposals=tuple(messages[1:])).encode()


def _is_of(member: openmls.Member, owner: LeafOwner) -> bool:
    try:
        return leaf_owner(member.credential).user_id == owner.user_id
    except IdentifierError:  # another implementation's credential
        return False
