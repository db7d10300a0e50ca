"""The MLS half of a room: its public group, which each commit moves, and the messages held to its epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from linearized.exceptions import InvalidInput
from linearized.mimi.handshake import HandshakeBundle, welcome_message
from linearized.mls import Mls, MlsError, PublicGroup
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import group_id
from linearized.protocol.state import StateMap, membership
from linearized.room.admission import encryption_algorithm
from linearized.room.algorithms import ciphersuite_of
from linearized.room.commits import VerifiedCommit, mls_rejection, verify_commit
from linearized.room.franks import check_agent, check_tag, needs_tags
from linearized.room.submissions import GroupUpdate, Reason, Rejected, WelcomeEffect
from linearized.room.tie import identify

# Where the first commit keeps the group it starts from, so that anybody can follow the group from the log
# alone.
INITIAL_GROUP: Final = "dev.linearized.initial_group_state"
NO_AGENTS: Final[Mapping[int, bytes]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A commit verified against ``group``, which it has not changed yet."""

    group: PublicGroup
    bundle: HandshakeBundle
    commit: VerifiedCommit
    initial: tuple[bytes, bytes] | None


class RoomGroup:
    """See the module.

    Args:
        group: None before the first commit.
        last_commit_id: event ID of the latest ``m.mls.commit``.
        agents: this hub's encoded FrankingAgentData by cipher suite; none if it franks nothing.
    """

    def __init__(
        self,
        *,
        room_id: str,
        mls: Mls,
        group: PublicGroup | None = None,
        last_commit_id: str | None = None,
        agents: Mapping[int, bytes] = NO_AGENTS,
    ) -> None:
        self._room_id = room_id
        self._mls = mls
        self._agents = agents
        self._hold(group)
        self.last_commit_id = last_commit_id

    def _hold(self, group: PublicGroup | None) -> None:
        """Keep the group. Nothing changes its franking agent, so it is looked at once, not per message."""
        self._group = group
        self._franked = group is not None and needs_tags(group, self._agents)

    @property
    def epoch(self) -> int | None:
        """The group's epoch; None before the first commit."""
        return self._group.epoch if self._group is not None else None

    def check_ciphertext(self, content: JsonObject, *, algorithm: str) -> None:
        """Hold an ``m.room.encrypted`` content to the current epoch: an entry for a past one is refused.

        Args:
            algorithm: the room's.

        Raises:
            Rejected: ``WRONG_EPOCH`` with the current one, ``MALFORMED``, or ``FORBIDDEN`` without a group.
        """
        if self._group is None:
            raise Rejected(Reason.FORBIDDEN, "The room has no MLS group yet")
        # "algorithm denotes which specific algorithm clients MUST use for sending and receiving encrypted
        # events in the room."
        if content.get("algorithm") != algorithm:
            raise Rejected(Reason.MALFORMED, f"The room's algorithm is {algorithm}")
        try:
            info = self._mls.inspect_message(binary(content, "ciphertext"))
        except MlsError as error:
            raise mls_rejection(error) from error
        if info.wire_format != "private_message" or info.content_type != "application":
            raise Rejected(Reason.MALFORMED, "The ciphertext is not an application PrivateMessage")
        if info.group_id != self._group.group_id:
            raise Rejected(Reason.MALFORMED, "The ciphertext is for another group")
        if info.epoch != self._group.epoch:
            raise Rejected(
                Reason.WRONG_EPOCH,
                f"The message is for epoch {info.epoch}, the group is in {self._group.epoch}",
                current_epoch=self._group.epoch,
            )
        if self._franked:
            check_tag(info)

    def stage(
        self,
        bundle: HandshakeBundle,
        initial: tuple[bytes, bytes] | None,
        state: StateMap,
        *,
        now: int,
    ) -> Transition:
        """Verify a commit; nothing changes.

        Args:
            initial: GroupInfo and ratchet tree of epoch 0; looked at only if the room has no group yet.
            now: the hub's acceptance time, milliseconds since the Unix epoch.

        Raises:
            Rejected: as ``verify_commit``, or the initial group is not this room's.
        """
        if self._group is not None:
            commit = verify_commit(self._group, bundle, now=now)
            return Transition(group=self._group, bundle=bundle, commit=commit, initial=None)
        group = self._observe(initial, state)
        commit = verify_commit(group, bundle, now=now)
        return Transition(group=group, bundle=bundle, commit=commit, initial=initial)

    def content_of(self, transition: Transition) -> JsonObject:
        """The content of the ``m.mls.commit`` event for a commit that came as a bundle."""
        content: JsonObject = {
            "message": encode_base64(transition.bundle.message),
            "public_group_state": encode_base64(transition.commit.group_info),
        }
        if self.last_commit_id is not None:
            content["prev_commit_event_id"] = self.last_commit_id
        if transition.initial is not None:
            group_info, ratchet_tree = transition.initial
            content[INITIAL_GROUP] = {
                "group_info": encode_base64(group_info),
                "ratchet_tree": encode_base64(ratchet_tree),
            }
        return content

    def check_parent(self, content: JsonObject) -> None:
        """Hold the parent that an ``m.mls.commit`` names, if it names one, to the commit before it.

        Raises:
            Rejected: ``FORBIDDEN``.
        """
        # "An optional field, prev_commit_event_id, SHOULD be specified when a parent commit exists. This is
        # to enable clients to find the commit they have keys for upon joining the room". A wrong one would
        # lead them astray.
        if content.get("prev_commit_event_id") not in (None, self.last_commit_id):
            raise Rejected(Reason.FORBIDDEN, "prev_commit_event_id is not the room's last commit")

    def merge(self, transition: Transition, commit_id: str) -> tuple[GroupUpdate, tuple[WelcomeEffect, ...]]:
        """Make the commit the group's state; what to store, and the Welcome to route.

        Raises:
            Rejected: the Welcome is malformed; nothing changed.
        """
        group, welcome = transition.group, transition.bundle.welcome
        try:
            references = tuple(self._mls.welcome_references(welcome)) if welcome is not None else ()
            group.merge(transition.commit.staged)
        except MlsError as error:
            raise mls_rejection(error) from error
        if self._group is not group:
            self._hold(group)
        self.last_commit_id = commit_id
        update = GroupUpdate(
            epoch=group.epoch,
            snapshot=group.save(),
            group_info=transition.commit.group_info,
            ratchet_tree=group.export_ratchet_tree(),
        )
        if welcome is None:
            return update, ()
        effect = WelcomeEffect(
            welcome=welcome_message(welcome),
            ratchet_tree=update.ratchet_tree,
            references=references,
            commit_event_id=commit_id,
        )
        return update, (effect,)

    def _observe(self, initial: tuple[bytes, bytes] | None, state: StateMap) -> PublicGroup:
        if initial is None:
            raise Rejected(Reason.INVALID_COMMIT, "The first commit must bring the group it starts from")
        group_info, ratchet_tree = initial
        try:
            group = self._mls.observe(group_info=group_info, ratchet_tree=ratchet_tree)
        except MlsError as error:
            raise mls_rejection(error) from error
        # Both names are in use for a room's group: MIMI's group URI and Linearized Matrix' "both identified
        # by the room ID".
        if group.group_id not in {group_id(self._room_id), self._room_id.encode()}:
            raise Rejected(Reason.INVALID_COMMIT, "The group's ID is not this room's")
        # "The exact ciphersuite and other algorithmic details are contained in the content for the
        # m.room.create event". No commit can change it: ReInit is not among the proposals a room takes.
        if group.ciphersuite != ciphersuite_of(encryption_algorithm(state) or ""):
            raise Rejected(Reason.INVALID_COMMIT, "The group's cipher suite is not the room's")
        check_agent(group, self._agents)
        members = group.members()
        if group.epoch != 0 or len(members) != 1:
            raise Rejected(Reason.INVALID_COMMIT, "A new group starts in epoch 0 with its creator alone")
        creator = identify(members[0]).user_id
        if membership(state, creator) != "join":
            raise Rejected(Reason.FORBIDDEN, f"{creator} is not joined to the room")
        return group


def binary(content: JsonObject, key: str) -> bytes:
    """A base64 member of an event's content.

    Raises:
        Rejected: ``MALFORMED`` if it is missing or not base64.
    """
    value = content.get(key)
    if not isinstance(value, str):
        raise Rejected(Reason.MALFORMED, f"content.{key} is missing")
    try:
        return decode_base64(value)
    except (InvalidInput, ValueError) as error:
        raise Rejected(Reason.MALFORMED, f"content.{key} is not base64") from error


def initial_group(content: JsonObject) -> tuple[bytes, bytes] | None:
    """The group a first commit's content says it starts from: GroupInfo and ratchet tree.

    Raises:
        Rejected: ``MALFORMED`` if it is there and not both are.
    """
    initial = content.get(INITIAL_GROUP)
    if not isinstance(initial, dict):
        return None
    return binary(initial, "group_info"), binary(initial, "ratchet_tree")
