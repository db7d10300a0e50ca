"""The tie between room membership and MLS group membership: the checks a commit must pass beyond MLS itself.

All functions look at values and raise; none of them changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListData,
    ParticipantListUpdate,
    apply_update,
)
from linearized.mimi.policy.components import POLICY_COMPONENTS, apply_policy_update
from linearized.mls import AppDataUpdate, Member, PublicGroup, StagedCommit
from linearized.protocol.identifiers import user_id_from_uri
from linearized.protocol.state import StateMap, membership
from linearized.protocol.visibility import is_world_readable
from linearized.room.algorithms import signs_with_ed25519
from linearized.room.credentials import ClientIdentity, client_of
from linearized.room.devices import Published
from linearized.room.roles import check_roles, has_policy, is_banned, roles_of
from linearized.room.submissions import OtherKeyPublished, Reason, Rejected

# Proposals that change nothing but leaves and app data. PSK, ReInit and GroupContextExtensions would change
# what the log has agreed on without an entry that says so; they stay out until a room policy can allow them.
ALLOWED_PROPOSALS: Final = frozenset(
    {"add", "update", "remove", "self_remove", "external_init", "app_data_update"}
)


def participants_of(app_data: Mapping[int, bytes]) -> dict[str, int]:
    """The participant list of a group context as user ID -> role index.

    Raises:
        Rejected: ``INVALID_COMMIT`` if the list is missing or malformed.
    """
    data = app_data.get(PARTICIPANT_LIST)
    if data is None:
        raise Rejected(Reason.INVALID_COMMIT, "The group has no participant list")
    try:
        listed = ParticipantListData.decode(data).participants
        users = {user_id_from_uri(pair.user): pair.role_index for pair in listed}
        check_roles(roles_of(app_data), set(users.values()))
    except (MimiDecodeError, IdentifierError) as error:
        raise Rejected(Reason.INVALID_COMMIT, f"The participant list is malformed: {error}") from error
    return users


def lists_participants(group: PublicGroup) -> bool:
    """Whether a group has a participant list; it has had one since it was created, or never will."""
    return PARTICIPANT_LIST in group.app_data()


def resulting_app_data(group: PublicGroup, updates: Iterable[AppDataUpdate]) -> dict[int, bytes]:
    """The component values a commit's AppDataUpdates lead to.

    Raises:
        Rejected: ``INVALID_PROPOSAL`` for an unknown component, a removal, a second update of one component
            ("A single commit is not valid if it contain any combination of Participant list updates that
            operate on … the same user … more than once", MIMI protocol, Participant List) or a malformed one.
    """
    current = group.app_data()
    result: dict[int, bytes] = {}
    for update in updates:
        if update.operation != "update" or update.component_id in result:
            raise Rejected(
                Reason.INVALID_PROPOSAL, "A commit updates a component once at most and never removes it"
            )
        if update.component_id == ROOM_METADATA:
            result[ROOM_METADATA] = update.payload
        elif update.component_id == PARTICIPANT_LIST:
            try:
                result[PARTICIPANT_LIST] = apply_update(
                    ParticipantListData.decode(current[PARTICIPANT_LIST]),
                    ParticipantListUpdate.decode(update.payload),
                ).encode()
            except (MimiDecodeError, KeyError) as error:
                raise Rejected(
                    Reason.INVALID_PROPOSAL, f"The participant list update is malformed: {error}"
                ) from error
        elif has_policy(current) and update.component_id in POLICY_COMPONENTS:
            result[update.component_id] = _policy_component(current, update)
        else:
            raise Rejected(
                Reason.INVALID_PROPOSAL, f"Component {update.component_id:#06x} is not one this room has"
            )
    return result


def _policy_component(current: Mapping[int, bytes], update: AppDataUpdate) -> bytes:
    try:
        return apply_policy_update(current, update.component_id, update.payload)
    except MimiDecodeError as error:
        raise Rejected(
            Reason.INVALID_PROPOSAL,
            f"The update of component {update.component_id:#06x} cannot be applied: {error}",
        ) from error


def identify(member: Member) -> ClientIdentity:
    """The client a leaf belongs to.

    Raises:
        Rejected: ``INVALID_COMMIT`` if its credential names none.
    """
    try:
        return client_of(member.identity, signature_key=member.signature_key)
    except IdentifierError as error:
        raise Rejected(Reason.INVALID_COMMIT, str(error)) from error


def check_proposals(staged: StagedCommit) -> None:
    """Refuse a commit with a proposal type that rooms do not take."""
    kinds = set(staged.proposal_kinds) - ALLOWED_PROPOSALS
    if kinds:
        raise Rejected(
            Reason.INVALID_PROPOSAL, f"Proposals of type {', '.join(sorted(kinds))} are not allowed"
        )


def check_identities_kept(group: PublicGroup, staged: StagedCommit) -> None:
    """An update of a leaf may bring new keys; it may not make the leaf somebody else's."""
    before = {member.leaf_index: member.identity for member in group.members()}
    for member in staged.updated:
        if before.get(member.leaf_index) != member.identity:
            raise Rejected(Reason.INVALID_COMMIT, "An update changes whose leaf it is")


def check_leaf_changes(
    group: PublicGroup, staged: StagedCommit, committer: ClientIdentity, state: StateMap
) -> None:
    """Check who may add and remove which device.

    Args:
        state: the state after the membership entries that the commit itself brings about.

    Raises:
        Rejected: ``FORBIDDEN``, or ``INVALID_COMMIT`` for a second leaf of one client.
    """
    removed = {member.leaf_index for member in staged.removed}
    readers = is_world_readable(state) and PARTICIPANT_LIST not in staged.app_data
    clients = {identify(member) for member in group.members() if member.leaf_index not in removed}
    for member in staged.added:
        client = identify(member)
        # Linearized Matrix, Updating Group State: "Devices can only be added to the group if they belong to a
        # user which is joined to the room, or if the room is "world readable"". A participant list, where
        # there is one, has a place for members only.
        if membership(state, client.user_id) != "join" and not readers:
            raise Rejected(Reason.FORBIDDEN, f"{client.user_id} is not joined to the room")
        if client in clients:
            raise Rejected(Reason.INVALID_COMMIT, f"{client.user_id} already has a leaf for that device")
        clients.add(client)
    for member in staged.removed:
        client = identify(member)
        if staged.is_external:
            # RFC 9420, 12.4.3.2: a Remove in an external commit is for "the prior appearance" of the one who
            # joins.
            if client != committer:
                raise Rejected(Reason.FORBIDDEN, "An external commit may only replace the joiner's own leaf")
        # Linearized Matrix: "A device can remove another device if they both belong to the same user ID", "A
        # device can be removed by anyone if the user ID to which it belongs is no longer in the join state".
        elif client.user_id != committer.user_id and membership(state, client.user_id) == "join":
            raise Rejected(Reason.FORBIDDEN, f"{client.user_id} is still joined to the room")


def users_after(group: PublicGroup, staged: StagedCommit) -> set[str]:
    """The users that have a leaf once the commit is merged."""
    removed = {member.leaf_index for member in staged.removed}
    kept = [member for member in group.members() if member.leaf_index not in removed]
    return {identify(member).user_id for member in (*kept, *staged.added)}


def check_introductions(staged: StagedCommit, committer: ClientIdentity, introduced: Set[bytes]) -> None:
    """A leaf says whose it is; the key package it came from has to be one that this user's provider handed
    out.

    Without this, any member could add a leaf of their own making in another user's name. A user's own further
    devices need no introduction: their provider speaks for the user, and the committer is that user.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    if staged.is_external:
        return  # the joiner is the committer, whom the provider or the session has spoken for
    for member in staged.added:
        client = identify(member)
        if client.user_id != committer.user_id and member.identity not in introduced:
            raise Rejected(
                Reason.FORBIDDEN, f"The key package for {client.user_id} was not handed out by their provider"
            )


def check_devices(group: PublicGroup, staged: StagedCommit, published: Published) -> None:
    """Hold every leaf that a commit brings, changes or is made by to what its device has published.

    A device of which no object is known is not held to anything: MIMI's have none. A leaf that stood in the
    tree before its device published another key stays until a device of its user removes or updates it.

    Raises:
        OtherKeyPublished: a leaf is not what its device says.
    """
    if not signs_with_ed25519(group.ciphersuite):
        return  # the key in a device object is of Ed25519
    # In this order, so that what stands is each leaf as it is after the commit.
    leaves = {leaf.leaf_index: leaf for leaf in (staged.committer, *staged.updated, *staged.added)}
    for leaf in leaves.values():
        client = identify(leaf)
        # Linearized Matrix, Device Credentials: "each MLS group member … has a "credential" or signing key
        # associated with it"; "Invalid devices MUST NOT be members of the MLS group".
        if published(client) not in (None, leaf.signature_key):
            raise OtherKeyPublished(client)


def check_agreement(group: PublicGroup, staged: StagedCommit, state: StateMap) -> None:
    """After a member's commit, leaves, participant list and room membership must agree.

    Whoever left or was banned since the last commit must be gone from the tree and the list; so a leave is a
    pending removal that the next commit has to contain. (An external commit cannot carry it; it is held to
    its own leaf.) A participant without a leaf may still be invited.

    Raises:
        Rejected: ``FORBIDDEN``, naming what the commit has to contain.
    """
    leaves = users_after(group, staged)
    if not lists_participants(group):
        # A group of Linearized Matrix servers alone: its leaves are all there is to agree with the room.
        participants = {}
        leaves = set() if is_world_readable(state) else leaves
    else:
        participants = participants_of(staged.app_data)
    roles = roles_of(staged.app_data)
    for user_id in sorted(leaves | participants.keys()):
        current = membership(state, user_id)
        # Who is banned stays in the list, in the role of that name, and has no leaf.
        banned = user_id not in leaves and is_banned(roles, participants[user_id])
        if current == "ban" and banned:
            continue
        if current != "join" and (user_id in leaves or current != "invite"):
            raise Rejected(
                Reason.FORBIDDEN, f"{user_id} has left: the next commit must remove it from the group"
            )
    strangers = leaves - participants.keys() if lists_participants(group) else set()
    if strangers:
        raise Rejected(
            Reason.FORBIDDEN, f"{min(strangers)} has a leaf but is missing from the participant list"
        )
