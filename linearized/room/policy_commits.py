"""A commit held to the room's policy: who did what in it, and whether they might."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace

from linearized.mimi.commit_parts import leaf_credential
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    changes,
)
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.choice import POLICY_CHOICE, chosen_policy
from linearized.mimi.policy.components import POLICY_COMPONENTS, PREAUTH_LIST, ROLES_LIST
from linearized.mimi.policy.roles import RoleData
from linearized.mls import ProposalInfo, PublicGroup, StagedCommit
from linearized.protocol.identifiers import user_id_from_uri
from linearized.protocol.state import StateMap, create_event, membership, parent_room
from linearized.room.credentials import client_of
from linearized.room.leaves import identify
from linearized.room.parents import check_base, parent_uris
from linearized.room.policy import RoomPolicy, forbid, policy_of, require
from linearized.room.policy_actions import GONE, Action, check_action
from linearized.room.policy_limits import check_limits
from linearized.room.proposals import Offer
from linearized.room.pseudonymity import keeps_minimal_metadata
from linearized.room.roles import has_policy, is_banned
from linearized.room.roster import Roster
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import read_list


def check_commit(
    group: PublicGroup,
    staged: StagedCommit,
    state: StateMap,
    *,
    roster: Roster,
    founding: bool,
    deletes: bool,
    admitted: bool,
) -> None:
    """Hold a verified commit to the policy of the room; without one it is held to nothing here.

    Args:
        state: the room's state before the commit.
        roster: the group's before the commit.
        founding: whether this is the room's first commit. Whom it adds is the creator's choice, as the policy
            itself is: participants of a room with fixed membership "have the list of participants specified
            when they are created".
        admitted: whether its sender joins by a joining code.
        deletes: whether it is to end the group, and so removes everybody but its sender, whatever the limits.

    Raises:
        Rejected: ``FORBIDDEN`` (MIMI's ``notAllowed``), or ``INVALID_COMMIT`` for a policy that cannot be.
    """
    app_data = group.app_data()
    if founding:
        check_choice(app_data, state)
    if not has_policy(app_data):
        return
    before = policy_of(app_data, roster.users)
    if deletes:
        # "canDestroyRoom - the holder is authorized to completely destroy the room."
        require(before, identify(staged.committer).user_id, Capability.DESTROY_ROOM)
        return
    after = policy_of(staged.app_data, roster.users_after(staged))
    check_base(after.base, state)
    if not founding:
        if before.operational is not None and staged.is_external:
            _check_external(before.operational.external_commit_allowed)
        actions = list(actions_of(group, staged))
        actions[0] = replace(actions[0], admitted=admitted)
        _check_disruption(actions)
        for action in actions:
            _check_taken(before, action, app_data=app_data, state=state)
    if parent_room(state) is not None:
        # Who went with the parent room was asked for no minimum.
        left = {user for user in before.participants if membership(state, user) == "leave"}
        before = _without(before, left)
    check_limits(before, after)


def _check_taken(
    policy: RoomPolicy, action: Action, *, app_data: Mapping[int, bytes], state: StateMap
) -> None:
    try:
        check_action(policy, action, app_data=app_data, state=state)
    except Rejected as error:
        if not action.references:
            raise
        # It was allowed when the hub took the proposals; named, they can be left out.
        raise Rejected(Reason.INVALID_PROPOSAL, str(error), invalid_proposals=action.references) from error


def check_offer_policy(group: PublicGroup, offer: Offer, state: StateMap, policy: RoomPolicy | None) -> None:
    """Hold standalone proposals to the policy of the room; without one they are held to nothing here. A
    provider takes out its users' clients, or may propose nothing at all.

    Args:
        state: the room's state before them.
        policy: the room's, if it has one.

    Raises:
        Rejected: ``FORBIDDEN`` (MIMI's ``notAllowed``).
    """
    if policy is None:
        return
    app_data, client = group.app_data(), offer.proposer.client
    if client is None:
        if policy.operational is not None and not policy.operational.external_proposal_allowed:
            forbid("The room takes no external proposals")
        return
    leaf = offer.proposals[0].sender_leaf
    member = None if leaf is None else group.member(leaf)
    listed = read_list(app_data[PARTICIPANT_LIST])
    action = Action(user_id=client.user_id, credential=None if member is None else member.credential)
    for proposal in offer.proposals:
        action = _with(action, proposal, group, listed)
    _check_disruption([action])
    check_action(policy, action, app_data=app_data, state=state)
    # Who has left since the epoch began counts no more, although only a commit takes them off the list.
    policy = _without(policy, {user for user in policy.participants if membership(state, user) in GONE})
    out = action.delisted | {user for user, index in action.moved.items() if is_banned(policy.roles, index)}
    left = _without(policy, out - action.moved.keys())
    clients = {user: count for user, count in left.clients.items() if user not in out}
    check_limits(
        policy,
        replace(
            policy,
            participants={**left.participants, **action.moved, **action.listed},
            clients=Counter(clients) - Counter(action.removed) + Counter(action.added),
        ),
    )


def _without(policy: RoomPolicy, users: Set[str]) -> RoomPolicy:
    return replace(
        policy,
        participants={user: index for user, index in policy.participants.items() if user not in users},
        clients={user: count for user, count in policy.clients.items() if user not in users},
    )


def check_founder(before: Mapping[str, int], committer: str, roles: RoleData, *, founding: bool) -> None:
    """Check that a new group has its creator alone, in whatever role the policy they chose gives them.

    Args:
        before: the participant list that the room's first commit starts from, user ID to role index.

    Raises:
        Rejected: ``INVALID_COMMIT``.
    """
    if founding and (before.keys() != {committer} or is_banned(roles, before[committer])):
        raise Rejected(Reason.INVALID_COMMIT, "A new group's only participant is its creator")


def check_choice(app_data: Mapping[int, bytes], state: StateMap) -> None:
    """Hold a new group to the policy that the room was created with, if it was with one.

    Args:
        app_data: of the group that the room's first commit starts from.

    Raises:
        Rejected: ``INVALID_COMMIT``.
    """
    choice = create_event(state).content.get(POLICY_CHOICE)
    if choice is None:
        return
    try:
        wanted = chosen_policy(
            choice, pseudonyms=keeps_minimal_metadata(state), parent=parent_uris(state)
        ).components()
    except ValueError as error:
        raise Rejected(Reason.INVALID_COMMIT, f"The room's policy is not known here: {error}") from error
    found = {component: app_data[component] for component in POLICY_COMPONENTS if component in app_data}
    if found != wanted:
        raise Rejected(Reason.INVALID_COMMIT, "The group does not have the policy the room was created with")


def _check_external(allowed: bool) -> None:
    if not allowed:
        forbid("The room takes no external commits")


def _check_disruption(actions: list[Action]) -> None:
    """Refuse changes of the policy that may not go together with changes of the participants.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    updated = {component for action in actions for component in action.components}
    # "an update to this component is not valid if it appear in the same commit as any Participant List
    # change."
    joined = any(action.listed or action.moved for action in actions)
    if ROLES_LIST in updated and (joined or any(action.delisted for action in actions)):
        forbid("Roles and participants do not change in the same commit")
    # "an update to this component is not valid if it appears in the same commit as any Participant List
    # change, except for user removals."
    if PREAUTH_LIST in updated and joined:
        forbid("Preauthorizations and participants do not change in the same commit, but for removals")


def actions_of(group: PublicGroup, staged: StagedCommit) -> Iterator[Action]:
    """What a commit does, by who does it, the committer first. What providers and the hub propose follows
    from the log.
    """
    committer = identify(staged.committer)
    by_user: dict[tuple[str, bytes], Action] = {}
    own = (committer.user_id, staged.committer.credential)
    by_user[own] = Action(user_id=own[0], credential=own[1], external=staged.is_external)
    if staged.is_external:
        replaces = any(identify(member) == committer for member in staged.removed)
        by_user[own] = replace(by_user[own], replaces=replaces, added=(committer.user_id,))
    listed = read_list(group.app_data()[PARTICIPANT_LIST])
    for proposal in staged.proposals:
        author = own
        if proposal.by_reference:
            member = None if proposal.sender_leaf is None else group.member(proposal.sender_leaf)
            if member is None:
                continue
            author = (identify(member).user_id, member.credential)
        action = by_user.setdefault(author, Action(user_id=author[0], credential=author[1]))
        if proposal.reference is not None and author != own:
            action = replace(action, references=(*action.references, proposal.reference))
        by_user[author] = _with(action, proposal, group, listed)
    yield from by_user.values()


def _with(action: Action, proposal: ProposalInfo, group: PublicGroup, listed: ParticipantListData) -> Action:
    """An action with one proposal more; ``listed`` is the participant list before it."""
    if proposal.key_package is not None:
        added = client_of(leaf_credential(proposal.key_package)).user_id
        return replace(action, added=(*action.added, added))
    if proposal.removed_leaf is not None:
        member = group.member(proposal.removed_leaf)
        removed = () if member is None else (identify(member).user_id,)
        return replace(action, removed=action.removed + removed)
    if proposal.component_id == PARTICIPANT_LIST:
        return _with_participants(action, proposal.payload or b"", listed)
    if proposal.kind == "app_data_update" and proposal.component_id is not None:
        components = {**action.components, proposal.component_id: proposal.payload or b""}
        return replace(action, components=components)
    return action


def _with_participants(action: Action, payload: bytes, listed: ParticipantListData) -> Action:
    found = changes(listed, ParticipantListUpdate.decode(payload))
    return replace(
        action,
        listed={**action.listed, **_roles({pair.user: pair.role_index for pair in found.added})},
        delisted=action.delisted | {user_id_from_uri(user) for user in found.removed},
        moved={**action.moved, **_roles({pair.user: pair.role_index for pair in found.changed})},
    )


def _roles(by_uri: Mapping[str, int]) -> dict[str, int]:
    return {user_id_from_uri(user): index for user, index in by_uri.items()}
