"""The tie between room membership and MLS group membership: the checks a commit must pass beyond MLS itself.

All functions look at values and raise; none of them changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.app_data import SAFE_AAD_COMPONENT
from linearized.mimi.certificates import is_certified
from linearized.mimi.commit_parts import leaf_credential
from linearized.mimi.participants import (
    FRANKING_AGENT,
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListData,
    ParticipantListUpdate,
    apply_updates,
)
from linearized.mimi.policy.components import POLICY_COMPONENTS, apply_policy_update
from linearized.mls import Member, ProposalInfo, PublicGroup, StagedCommit
from linearized.protocol.identifiers import user_id_from_uri
from linearized.protocol.state import StateMap, membership
from linearized.protocol.visibility import is_world_readable
from linearized.room.algorithms import signs_with_ed25519
from linearized.room.credentials import ClientIdentity
from linearized.room.devices import Published
from linearized.room.franks import read_agent
from linearized.room.leaves import identify
from linearized.room.proposers import proposer_of
from linearized.room.roles import check_roles, has_policy, is_banned, roles_of
from linearized.room.roster import Roster
from linearized.room.standing import beyond, joined_users
from linearized.room.submissions import OtherKeyPublished, Reason, Rejected

# Proposals that change nothing but leaves and app data, and the one change of extensions that an entry of the
# log asks for (``hub_senders``). PSK and ReInit would change what the log has agreed on without an entry that
# says so; they stay out until a room policy can allow them.
ALLOWED_PROPOSALS: Final = frozenset(
    {
        "add",
        "update",
        "remove",
        "self_remove",
        "external_init",
        "app_data_update",
        "group_context_extensions",
    }
)

NOBODY: Final[Mapping[str, int]] = MappingProxyType({})


class Update(Protocol):
    """An AppDataUpdate, as a commit holds it or as a verified proposal."""

    @property
    def component_id(self) -> int | None:
        """Which component."""
        ...

    @property
    def operation(self) -> str | None:
        """``update`` or ``remove``."""
        ...

    @property
    def payload(self) -> bytes | None:
        """The component's own update format."""
        ...


KEPT_LISTS: Final = 128
"""Participant lists whose reading is kept: each commit looks at the list before and after it, and most leave
it as it is. A thousand users take about 300 KB."""


@lru_cache(KEPT_LISTS)
def read_list(data: bytes) -> ParticipantListData:
    """Decode a participant list.

    Raises:
        MimiDecodeError: it is malformed.
    """
    return ParticipantListData.decode(data)


def participants_of(app_data: Mapping[int, bytes]) -> Mapping[str, int]:
    """The participant list of a group context as user ID -> role index. Of equal lists it is the same object.

    Raises:
        Rejected: ``INVALID_COMMIT`` if the list is missing or malformed.
    """
    data = app_data.get(PARTICIPANT_LIST)
    if data is None:
        raise Rejected(Reason.INVALID_COMMIT, "The group has no participant list")
    try:
        users, roles = _users_of(data)
        check_roles(roles_of(app_data), roles)
    except (MimiDecodeError, IdentifierError) as error:
        raise Rejected(Reason.INVALID_COMMIT, f"The participant list is malformed: {error}") from error
    return users


@lru_cache(KEPT_LISTS)
def _users_of(data: bytes) -> tuple[Mapping[str, int], frozenset[int]]:
    """The users and their roles, and which roles there are among them."""
    users = {user_id_from_uri(pair.user): pair.role_index for pair in read_list(data).participants}
    return MappingProxyType(users), frozenset(users.values())


def lists_participants(group: PublicGroup) -> bool:
    """Whether a group has a participant list; it has had one since it was created, or never will."""
    return PARTICIPANT_LIST in group.app_data()


def resulting_app_data(current: Mapping[int, bytes], updates: Iterable[Update]) -> dict[int, bytes]:
    """The component values a commit's AppDataUpdates lead to.

    Args:
        current: of the group before the commit.

    Raises:
        Rejected: ``INVALID_PROPOSAL`` for an unknown component, a removal, a malformed update, or updates
            that do not go together: "A single commit is not valid if it contain any combination of
            Participant list updates that operate on … the same user … more than once" (MIMI protocol,
            Participant List), "Only a single Room metadata update is valid per commit" (Room Metadata).
    """
    payloads: dict[int, list[bytes]] = {}
    for update in updates:
        if update.component_id is None or update.operation != "update" or update.payload is None:
            raise Rejected(Reason.INVALID_PROPOSAL, "A room's components are never removed")
        payloads.setdefault(update.component_id, []).append(update.payload)
    policy = POLICY_COMPONENTS if has_policy(current) else ()
    # "The use of AppDataUpdate on the franking_agent is RECOMMENDED only when adding a new franking_agent":
    # its tags travel in authenticated data that the group has to frame from the beginning.
    agent = {FRANKING_AGENT} if SAFE_AAD_COMPONENT in current else set()
    unknown = payloads.keys() - {PARTICIPANT_LIST, ROOM_METADATA, *agent, *policy}
    if unknown:
        raise Rejected(Reason.INVALID_PROPOSAL, f"Component {min(unknown):#06x} is not one this room has")
    result: dict[int, bytes] = {}
    for component, several in payloads.items():
        if component == PARTICIPANT_LIST:
            result[component] = _participant_list(current, several)
        elif len(several) > 1:
            raise Rejected(
                Reason.INVALID_PROPOSAL, f"A commit updates component {component:#06x} once at most"
            )
        elif component == ROOM_METADATA:
            result[component] = several[0]
        elif component == FRANKING_AGENT:
            result[component] = read_agent(several[0])
        else:
            result[component] = _policy_component(current, component, several[0])
    return result


def _participant_list(current: Mapping[int, bytes], updates: Sequence[bytes]) -> bytes:
    try:
        return apply_updates(
            read_list(current[PARTICIPANT_LIST]),
            [ParticipantListUpdate.decode(update) for update in updates],
        ).encode()
    except (MimiDecodeError, KeyError) as error:
        raise Rejected(
            Reason.INVALID_PROPOSAL, f"The participant list update cannot be applied: {error}"
        ) from error


def _policy_component(current: Mapping[int, bytes], component: int, update: bytes) -> bytes:
    try:
        return apply_policy_update(current, component, update)
    except MimiDecodeError as error:
        raise Rejected(
            Reason.INVALID_PROPOSAL, f"The update of component {component:#06x} cannot be applied: {error}"
        ) from error


def check_proposals(staged: StagedCommit) -> None:
    """Refuse a commit with a proposal type that rooms do not take."""
    kinds = set(staged.proposal_kinds) - ALLOWED_PROPOSALS
    if kinds:
        raise Rejected(
            Reason.INVALID_PROPOSAL, f"Proposals of type {', '.join(sorted(kinds))} are not allowed"
        )


def check_identities_kept(group: PublicGroup, staged: StagedCommit) -> None:
    """An update of a leaf may bring new keys; it may not make the leaf somebody else's."""
    for member in staged.updated:
        before = group.member(member.leaf_index)
        if before is None or not keeps_identity(before, member):
            raise Rejected(Reason.INVALID_COMMIT, "An update changes whose leaf it is")


def keeps_identity(before: Member, after: Member) -> bool:
    """Whether an update leaves a leaf whose it is: with the same credential, or with other certificates of
    the same client, as they expire.
    """
    if before.credential == after.credential:
        return True
    return (
        is_certified(before.credential)
        and is_certified(after.credential)
        and identify(before) == identify(after)
    )


def check_leaf_changes(
    group: PublicGroup,
    staged: StagedCommit,
    committer: ClientIdentity,
    state: StateMap,
    *,
    roster: Roster,
    hub: str,
) -> None:
    """Check who may add and remove which device: each proposal by what its own sender may do.

    Args:
        roster: the group's before the commit.
        state: the state after the membership entries that the commit itself brings about.

    Raises:
        Rejected: ``FORBIDDEN``, ``INVALID_PROPOSAL`` naming a proposal by reference that no longer holds, or
            ``INVALID_COMMIT`` for a second leaf of one client.
    """
    readers = is_world_readable(state) and PARTICIPANT_LIST not in staged.app_data
    arrived: set[ClientIdentity] = set()
    referenced = proposed_credentials(staged)
    for member in staged.added:
        client = identify(member)
        # Linearized Matrix, Updating Group State: "Devices can only be added to the group if they belong to a
        # user which is joined to the room, or if the room is "world readable"". A participant list, where
        # there is one, has a place for members only.
        if membership(state, client.user_id) != "join" and not readers:
            raise refused(f"{client.user_id} is not joined to the room", referenced.get(member.credential))
        if client in arrived or roster.remains(client, staged):
            raise Rejected(Reason.INVALID_COMMIT, f"{client.user_id} already has a leaf for that device")
        arrived.add(client)
    removals = {proposal.removed_leaf: proposal for proposal in staged.proposals}
    for member in staged.removed:
        client, removal = identify(member), removals[member.leaf_index]
        if staged.is_external:
            # RFC 9420, 12.4.3.2: a Remove in an external commit is for "the prior appearance" of the one who
            # joins. "An external Commit can contain zero or more SelfRemove proposals" (mls-extensions).
            if client != committer and removal.kind != "self_remove":
                raise Rejected(Reason.FORBIDDEN, "An external commit may only replace the joiner's own leaf")
        elif not proposer_of(group, removal, hub=hub).may_remove(client.user_id, state):
            raise refused(f"{client.user_id} is still joined to the room", removal.reference)


def proposed_credentials(staged: StagedCommit) -> dict[bytes, bytes | None]:
    """The clients a commit adds by reference: their credentials, TLS-encoded, and the reference."""
    return {
        added_credential(proposal): proposal.reference
        for proposal in staged.proposals
        if proposal.kind == "add" and proposal.by_reference
    }


def added_credential(proposal: ProposalInfo) -> bytes:
    """The TLS-encoded Credential in a verified Add proposal.

    Raises:
        MimiDecodeError: it is of a type which no room takes.
    """
    return leaf_credential(proposal.key_package or b"")


def refused(text: str, reference: bytes | None) -> Rejected:
    """The refusal of a commit for what a proposal does that is in it by value, or by ``reference``.

    What is in it by reference was right when the hub took it; named, it can be left out.
    """
    if reference is None:
        return Rejected(Reason.FORBIDDEN, text)
    return Rejected(Reason.INVALID_PROPOSAL, text, invalid_proposals=(reference,))


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
    known = introduced | proposed_credentials(staged).keys()  # checked when the proposals were taken
    for member in staged.added:
        client = identify(member)
        if client.user_id != committer.user_id and member.credential not in known:
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
    added = proposed_credentials(staged)
    updated = {each.sender_leaf: each.reference for each in staged.proposals if each.kind == "update"}
    for leaf in leaves.values():
        client = identify(leaf)
        reference = added.get(leaf.credential) or updated.get(leaf.leaf_index)
        # Linearized Matrix, Device Credentials: "each MLS group member … has a "credential" or signing key
        # associated with it"; "Invalid devices MUST NOT be members of the MLS group".
        if published(client) not in (None, leaf.signature_key):
            raise OtherKeyPublished(client, reference)


def check_agreement(roster: Roster, staged: StagedCommit, state: StateMap) -> None:
    """After a member's commit, leaves, participant list and room membership must agree.

    Whoever left or was banned since the last commit must be gone from the tree and the list; so a leave is a
    pending removal that the next commit has to contain. (An external commit cannot carry it; it is held to
    its own leaf.) A participant without a leaf may still be invited.

    Args:
        roster: the group's before the commit.

    Raises:
        Rejected: ``FORBIDDEN``, naming what the commit has to contain.
    """
    leaves: Set[str] = roster.users_after(staged).keys()
    app_data, participants = staged.app_data, NOBODY
    listed = PARTICIPANT_LIST in app_data
    if listed:
        participants = participants_of(app_data)
    elif is_world_readable(state):
        leaves = NOBODY.keys()
    # In a group of Linearized Matrix servers alone, the leaves are all there is to agree with the room.
    roles = roles_of(app_data)
    joined = joined_users(state)
    strangers = beyond(leaves, participants.keys()) if listed else leaves
    # Whoever else has a leaf is a participant.
    for user_id in sorted(beyond(strangers, joined) | beyond(participants.keys(), joined)):
        current = membership(state, user_id)
        # Who is banned stays in the list, in the role of that name, and has no leaf.
        banned = user_id not in leaves and is_banned(roles, participants[user_id])
        if current == "ban" and banned:
            continue
        if user_id in leaves or current != "invite":
            raise Rejected(
                Reason.FORBIDDEN, f"{user_id} has left: the next commit must remove it from the group"
            )
    if listed and strangers:
        raise Rejected(
            Reason.FORBIDDEN, f"{min(strangers)} has a leaf but is missing from the participant list"
        )
