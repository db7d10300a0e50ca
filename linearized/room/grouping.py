"""The MLS half of a room: its public group, which each commit moves, and the messages held to its epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from linearized.mimi.handshake import HandshakeBundle, welcome_message
from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate
from linearized.mls import Mls, MlsError, PublicGroup, SignatureKeyPair
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import group_id
from linearized.protocol.state import StateMap, membership
from linearized.room.admission import encryption_algorithm
from linearized.room.algorithms import ciphersuite_of
from linearized.room.certificates import Authorities, check_offered_certificates
from linearized.room.commits import VerifiedCommit, mls_rejection, verify_commit
from linearized.room.content import binary
from linearized.room.departures import Missing, missing_removals
from linearized.room.devices import Published
from linearized.room.franks import changes_agent, check_agent, check_new_agent, check_tag, needs_tags
from linearized.room.hub_senders import check_new_senders
from linearized.room.parts import INITIAL_GROUP
from linearized.room.policy import RoomPolicy, policy_of
from linearized.room.proposals import Offer, check_offer, check_proposed_devices, verify_offer
from linearized.room.proposers import external_senders
from linearized.room.pseudonymity import check_offered
from linearized.room.replays import Fingerprint, Replays, fingerprint
from linearized.room.roles import has_policy
from linearized.room.roster import Roster
from linearized.room.submissions import GroupUpdate, Reason, Rejected, WelcomeEffect

NO_AGENTS: Final[Mapping[int, bytes]] = MappingProxyType({})
# Commits after which a group is written out if none of them adds anybody. A hub that starts again applies
# those since the last time once more: a tenth of a second at a thousand members, where each writing is half
# a megabyte.
SAVE_EVERY: Final = 16
# In a commit that ended the room's group: true.
GROUP_DELETED: Final = "dev.linearized.group_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A commit verified against ``group``, which it has not changed yet."""

    group: PublicGroup
    roster: Roster
    bundle: HandshakeBundle
    commit: VerifiedCommit
    initial: tuple[bytes, bytes] | None
    deletes: bool = False


class RoomGroup:
    """See the module.

    Args:
        hub: the server that orders the room.
        signer: the key the hub proposes with; None if it proposes nothing.
        group: None before the first commit. The proposals pending in its epoch are stored in it.
        last_commit_id: event ID of the latest ``m.mls.commit``.
        agents: this hub's encoded FrankingAgentData by cipher suite; none if it franks nothing.
        deleted: whether that commit ended the group.
        saved: the epoch the group was written out in last; by default its present one.
        save_every: with which commit after that, at the latest, it is again.
        sent: the latest application messages of its epoch, oldest first.
    """

    def __init__(
        self,
        *,
        room_id: str,
        hub: str,
        mls: Mls,
        signer: SignatureKeyPair | None = None,
        group: PublicGroup | None = None,
        last_commit_id: str | None = None,
        agents: Mapping[int, bytes] = NO_AGENTS,
        deleted: bool = False,
        saved: int | None = None,
        save_every: int = SAVE_EVERY,
        sent: Iterable[Fingerprint] = (),
    ) -> None:
        self._room_id = room_id
        self._hub = hub
        self._mls = mls
        self._signer = signer
        self._policy: tuple[int, RoomPolicy | None] | None = None
        self._agents = agents
        self._hold(group)
        self.last_commit_id = last_commit_id
        self._deleted = deleted
        self._saved = saved if saved is not None else self.epoch or 0
        self._save_every = save_every
        self.replays = Replays(sent)

    @property
    def is_deleted(self) -> bool:
        """Whether a commit has ended the group."""
        return self._deleted

    def require_alive(self) -> None:
        """Take nothing once the group was deleted.

        Raises:
            Rejected: ``FORBIDDEN``.
        """
        if self._deleted:
            raise Rejected(Reason.FORBIDDEN, "The room's group was deleted; its log can still be read")

    def _hold(self, group: PublicGroup | None) -> None:
        """Keep the group. Its franking agent is looked at here and at its changes, not with each message."""
        self._group = group
        self._roster: Roster | None = None
        self._franked = group is not None and needs_tags(group, self._agents)

    @property
    def policy(self) -> RoomPolicy | None:
        """The room's policy; None without a group, or if its creator chose none. Worked out once an epoch.

        Raises:
            Rejected: ``INVALID_COMMIT`` if the policy is malformed, which no commit makes it.
        """
        group = self._group
        if group is None:
            return None
        if self._policy is None or self._policy[0] != group.epoch:
            app_data = group.app_data()
            found = policy_of(app_data, self._clients(group).users) if has_policy(app_data) else None
            self._policy = (group.epoch, found)
        return self._policy[1]

    @property
    def epoch(self) -> int | None:
        """The group's epoch; None before the first commit."""
        return self._group.epoch if self._group is not None else None

    def check_ciphertext(self, content: JsonObject, *, algorithm: str, sender: str) -> Fingerprint:
        """Hold an ``m.room.encrypted`` content to the current epoch: an entry for a past one is refused.

        Args:
            algorithm: the room's.
            sender: the user ID of who sends it.

        Returns:
            As ``check_message``.

        Raises:
            Rejected: as ``check_message``, or ``MALFORMED``.
        """
        # "algorithm denotes which specific algorithm clients MUST use for sending and receiving encrypted
        # events in the room."
        if content.get("algorithm") != algorithm:
            raise Rejected(Reason.MALFORMED, f"The room's algorithm is {algorithm}")
        return self.check_message(binary(content, "ciphertext"), sender=sender)

    def check_message(self, message: bytes, *, sender: str) -> Fingerprint:
        """Hold an application message to the current epoch.

        Args:
            message: an MLSMessage.
            sender: the user ID of who sends it.

        Returns:
            What ``replays`` is to note once the message is accepted.

        Raises:
            Rejected: ``WRONG_EPOCH`` with the current one, ``MALFORMED``, or ``FORBIDDEN`` without a group or
                if somebody else has sent it.
        """
        group = self._existing()
        try:
            info = self._mls.inspect_message(message)
        except MlsError as error:
            raise mls_rejection(error) from error
        if info.wire_format != "private_message" or info.content_type != "application":
            raise Rejected(Reason.MALFORMED, "The ciphertext is not an application PrivateMessage")
        if info.group_id != group.group_id:
            raise Rejected(Reason.MALFORMED, "The ciphertext is for another group")
        if info.epoch != group.epoch:
            raise Rejected(
                Reason.WRONG_EPOCH,
                f"The message is for epoch {info.epoch}, the group is in {group.epoch}",
                current_epoch=group.epoch,
            )
        if self._franked:
            check_tag(info)
        found = fingerprint(message, sender)
        self.replays.check(found)
        return found

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
            check_new_agent(self._group, commit.staged, self._agents)
            check_new_senders(self._group, commit.staged, state, key=self._own_key)
            roster = self._clients(self._group)
            return Transition(group=self._group, roster=roster, bundle=bundle, commit=commit, initial=None)
        group, roster = self._observe(initial, state)
        commit = verify_commit(group, bundle, now=now)
        check_new_agent(group, commit.staged, self._agents)
        check_new_senders(group, commit.staged, state, key=self._own_key)
        return Transition(group=group, roster=roster, bundle=bundle, commit=commit, initial=initial)

    @property
    def _own_key(self) -> bytes:
        """What the hub is to be listed with; nothing if it proposes nothing."""
        return b"" if self._signer is None else self._signer.public_key

    def examine(
        self,
        bundle: HandshakeBundle,
        state: StateMap,
        *,
        introduced: Set[bytes],
        published: Published,
        authorities: Authorities,
        now: int,
    ) -> tuple[PublicGroup, Offer]:
        """Verify and check proposals; nothing changes.

        Args:
            introduced: see ``Handshake``.
            published: see ``check_devices``.
            authorities: see ``check_certificates``.
            now: the hub's acceptance time, milliseconds since the Unix epoch.

        Raises:
            Rejected: as ``verify_offer`` and ``check_offer``, or ``FORBIDDEN`` without a group.
        """
        group = self._existing()
        offer = verify_offer(group, bundle, hub=self._hub, now=now)
        if changes_agent(offer.proposals):
            raise Rejected(Reason.INVALID_PROPOSAL, "A new franking agent comes with a commit alone")
        check_offered(offer.proposals, state)
        roster = self._clients(group)
        check_offer(group, offer, roster=roster, introduced=introduced, state=state, hub=self._hub)
        check_proposed_devices(group, offer, published)
        check_offered_certificates(offer.proposals, authorities, now=now)
        return group, offer

    def keep(self, messages: Iterable[bytes], *, now: int) -> None:
        """Have verified proposals pending until the epoch ends.

        Args:
            now: when the hub accepted them, milliseconds since the Unix epoch.
        """
        group = self._existing()
        for message in messages:
            group.add_proposal(message, now=now // 1000)

    def missing_removals(self, state: StateMap) -> list[bytes]:
        """Proposals of the hub's own (MLSMessages) by which nobody stays in the group who is not in the room;
        none if the group does not have the hub among its external senders.

        Args:
            state: the room's.
        """
        if self._group is None or self._signer is None or self._deleted:
            return []
        # Only rooms whose groups have a participant list have a signer.
        keys = [sender.signature_key for sender in external_senders(self._group)]
        if self._signer.public_key not in keys:
            return []
        missing = missing_removals(self._group, self._clients(self._group).clients, state)
        try:
            return _proposals(self._group, self._signer, keys.index(self._signer.public_key), missing)
        except MlsError:
            return []  # whoever created the group listed our key where it is of no use, as in another suite

    def content_of(self, transition: Transition) -> JsonObject:
        """The content of the ``m.mls.commit`` event for a commit that came as a bundle."""
        content: JsonObject = {
            "message": encode_base64(transition.bundle.message),
            "public_group_state": encode_base64(transition.commit.group_info),
        }
        if self.last_commit_id is not None:
            content["prev_commit_event_id"] = self.last_commit_id
        if transition.deletes:
            content[GROUP_DELETED] = True
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

    def merge(
        self, transition: Transition, commit_id: str
    ) -> tuple[GroupUpdate | None, tuple[WelcomeEffect, ...]]:
        """Make the commit the group's state; what to store, if it is time, and the Welcome to route.

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
        if changes_agent(transition.commit.staged.proposals):
            self._franked = needs_tags(group, self._agents)
        self._roster = transition.roster
        self._roster.merge(transition.commit.staged)
        self.last_commit_id = commit_id
        self.replays.clear()
        self._deleted = transition.deletes
        if not self._is_due(transition):
            return None, ()
        self._saved = group.epoch
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

    def _is_due(self, transition: Transition) -> bool:
        """Whether the group has to be written out. What the log's commits can be applied to once more, later
        and without a clock, need not be.
        """
        # A client that comes begins with the tree as it is now; and how long its key package was good for is
        # asked once.
        comes = bool(transition.commit.staged.added) or transition.bundle.welcome is not None
        late = transition.group.epoch - self._saved >= self._save_every
        return comes or late or transition.deletes or transition.initial is not None

    def _existing(self) -> PublicGroup:
        if self._group is None:
            raise Rejected(Reason.FORBIDDEN, "The room has no MLS group yet")
        return self._group

    def _clients(self, group: PublicGroup) -> Roster:
        if self._roster is None:
            self._roster = Roster(group.members())
        return self._roster

    def _observe(self, initial: tuple[bytes, bytes] | None, state: StateMap) -> tuple[PublicGroup, Roster]:
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
        roster = Roster(group.members())
        if group.epoch != 0 or len(roster.clients) != 1:
            raise Rejected(Reason.INVALID_COMMIT, "A new group starts in epoch 0 with its creator alone")
        (creator,) = roster.users
        if membership(state, creator) != "join":
            raise Rejected(Reason.FORBIDDEN, f"{creator} is not joined to the room")
        return group, roster


def _proposals(
    group: PublicGroup, signer: SignatureKeyPair, sender_index: int, missing: Missing
) -> list[bytes]:
    made = [
        group.propose_remove(signer=signer, sender_index=sender_index, leaf_index=leaf)
        for leaf in missing.leaves
    ]
    if missing.update != ParticipantListUpdate():
        made.append(
            group.propose_app_data_update(
                signer=signer,
                sender_index=sender_index,
                component_id=PARTICIPANT_LIST,
                payload=missing.update.encode(),
            )
        )
    return made


def initial_group(content: JsonObject) -> tuple[bytes, bytes] | None:
    """The group a first commit's content says it starts from: GroupInfo and ratchet tree.

    Raises:
        Rejected: ``MALFORMED`` if it is there and not both are.
    """
    initial = content.get(INITIAL_GROUP)
    if not isinstance(initial, dict):
        return None
    return binary(initial, "group_info"), binary(initial, "ratchet_tree")
