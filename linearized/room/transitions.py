"""What the room makes of a commit that the group allows: the checks that need both, and its acts."""

from __future__ import annotations

from dataclasses import replace

from linearized.exceptions import MimiDecodeError
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle
from linearized.mimi.room_policy import role_of_power_level
from linearized.protocol.canonical import JsonObject
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import StateMap
from linearized.protocol.versions import RoomVersion
from linearized.room.acts import Act, acts_of
from linearized.room.certificates import Authorities, check_certificates
from linearized.room.content import binary
from linearized.room.departures import check_departures
from linearized.room.devices import Published
from linearized.room.grouping import Transition
from linearized.room.observing import public_commit
from linearized.room.policy_commits import check_commit, check_founder
from linearized.room.pseudonymity import check_leaves
from linearized.room.roles import roles_of
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import (
    check_agreement,
    check_devices,
    check_leaf_changes,
    lists_participants,
    participants_of,
)


def commit_bundle(content: JsonObject) -> HandshakeBundle:
    """The commit and GroupInfo in the content of an ``m.mls.commit``.

    Raises:
        Rejected: ``MALFORMED``.
    """
    try:
        public_commit(content)
    except MimiDecodeError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
    return HandshakeBundle(
        message=binary(content, "message"),
        welcome=None,
        group_info=GroupInfoOption(full=binary(content, "public_group_state"), partial=None),
        ratchet_tree=None,
    )


def deleting(transition: Transition) -> Transition:
    """A commit that ends the group.

    Raises:
        Rejected: ``INVALID_COMMIT`` if somebody else is in it after the commit.
    """
    # "The MLSGroupUpdate MUST contain a PublicMessage with a commit that contains Remove proposals for every
    # member of the group except the committer" (draft-robert-mimi-delivery-service, Delete group).
    if len(transition.commit.staged.members) != 1:
        raise Rejected(
            Reason.INVALID_COMMIT, "A commit that deletes the group removes everybody but its sender"
        )
    return replace(transition, deletes=True)


def commit_acts(transition: Transition, state: StateMap, version: RoomVersion, *, hub: str) -> list[Act]:
    """What a commit does to the participant list.

    Args:
        state: the room's before it.

    Raises:
        Rejected: ``INVALID_COMMIT`` for a list that cannot be.
    """
    if not version.vouched_events and not lists_participants(transition.group):
        # Linearized Matrix knows no participant list; only MIMI providers need one.
        return []
    staged, committer = transition.commit.staged, transition.commit.committer.user_id
    before = participants_of(transition.group.app_data())
    participants_of(staged.app_data)
    roles = roles_of(transition.group.app_data()), roles_of(staged.app_data)
    if roles[1] is not None:
        check_founder(before, committer, roles[1], founding=transition.initial is not None)
    elif transition.initial is not None:
        role = role_of_power_level(user_level(state, committer)).index
        if before != {committer: role}:
            # Nothing in the log would say where any other role came from.
            raise Rejected(
                Reason.INVALID_COMMIT,
                f"A new group's only participant is its creator, in the role of their power level, {role}",
            )
    return list(acts_of(transition.group, staged.proposals, committer=committer, hub=hub, roles=roles))


def check_policy_of_commit(transition: Transition, state: StateMap, *, admitted: bool = False) -> None:
    """See ``check_commit``."""
    check_commit(
        transition.group,
        transition.commit.staged,
        state,
        roster=transition.roster,
        founding=transition.initial is not None,
        deletes=transition.deletes,
        admitted=admitted,
    )


def check_tie(
    transition: Transition,
    state: StateMap,
    published: Published,
    authorities: Authorities,
    *,
    hub: str,
    now: int,
) -> None:
    """Room and group must agree after a commit and the entries that go with it.

    Args:
        state: the room's after those entries.
        now: the hub's acceptance time, milliseconds since the Unix epoch.

    Raises:
        Rejected: as the checks of ``tie``, ``certificates`` and ``departures``.
    """
    group, staged = transition.group, transition.commit.staged
    check_leaves(staged, state)
    check_certificates(staged, authorities, now=now)
    check_devices(group, staged, published)
    check_leaf_changes(group, staged, transition.commit.committer, state, roster=transition.roster, hub=hub)
    check_departures(group, staged, state, hub=hub)
    if not staged.is_external:
        check_agreement(transition.roster, staged, state)
