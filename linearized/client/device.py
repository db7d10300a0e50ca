"""One MLS client and its groups: everything a device does without the network.

A method either completes, with the whole state saved, or raises and leaves the saved state as it was.
Nothing here waits, so nothing can come in between: a message encrypted is a message in the outbox, a
commit made is a commit that will be recognised in the log, whenever the process dies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import sha256

import openmls

from linearized.client.app_data import new_app_data
from linearized.client.errors import NotInGroup, StateFileError, UntrustedAnswer
from linearized.client.franks import safe_aad, with_claims
from linearized.client.identity import LeafOwner, leaf_owner
from linearized.client.items import Item
from linearized.client.pending import drop, is_leaving, leaving_leaves, propose_leave, references
from linearized.client.state import Outgoing, PendingCommit, RoomRecord, SavedState
from linearized.client.storage import StateStorage
from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.content import MimiContent
from linearized.mimi.franking import agent_uri, franking_components
from linearized.mimi.handshake import (
    GroupInfoOption,
    HandshakeBundle,
    RatchetTreeOption,
    welcome_struct,
)
from linearized.mimi.participants import FRANKING_AGENT, PARTICIPANT_LIST, ParticipantListData, UserRolePair
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.presets import Preset
from linearized.mimi.policy.roles import NO_ROLE, RoleData
from linearized.mimi.policy.status import read_receipts
from linearized.mimi.room_policy import ADMIN, REGULAR, role_of_power_level
from linearized.protocol.identifiers import client_uri, group_id, room_domain, user_domain, user_uri

CIPHERSUITE = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
# Role indices of the participant list.
ROLE_REGULAR = REGULAR.index
ROLE_ADMIN = ADMIN.index
_WAYS_IN = (Capability.OPEN_JOIN, Capability.USE_JOIN_CODE)
# 80 days: how long a key package may wait on the server for someone to use it; peers refuse more than 84.
KEY_PACKAGE_LIFETIME = 80 * 24 * 3600

# Makes a commit in the group as it is now, or finds nothing left to do.
Change = Callable[[openmls.Group], openmls.CommitBundle | None]


class MlsDevice:
    """A device ``device_id`` of ``user_id``; made with ``open``."""

    def __init__(self, client: openmls.Client, state: SavedState, storage: StateStorage) -> None:
        self.client = client
        self.state = state
        self._storage = storage
        self.owner = leaf_owner(client.credential, signature_key=client.signature_key)

    @classmethod
    def open(
        cls,
        storage: StateStorage,
        *,
        user_id: str,
        device_id: str,
        certificates: Sequence[bytes] | None = None,
        signature_key: openmls.SignatureKeyPair | None = None,
    ) -> MlsDevice:
        """Continue from the saved state, or make a new client.

        Args:
            certificates: of a new client that is to have an X.509 credential: DER, its own first, which is
                for ``signature_key`` and names the client's URI in its ``subjectAltName``.
            signature_key: of a new client; drawn if there is none.

        Raises:
            StateFileError: the state is damaged, or belongs to another device.
            IdentifierError: the certificate is another client's, or for another key.
        """
        device = cls.load(storage)
        if device is None:
            identity = client_uri(user_id, device_id).encode() if certificates is None else None
            client = openmls.Client.create(
                identity=identity,
                certificates=certificates,
                ciphersuite=CIPHERSUITE,
                signature_key=signature_key,
            )
            device = cls(client, SavedState(mls=b""), storage)
            if device.owner.client != (user_id, device_id):
                raise IdentifierError("the certificate is another client's")
            device.save()
        if device.owner.client != (user_id, device_id):
            raise StateFileError("the saved state belongs to another device")
        return device

    @classmethod
    def load(cls, storage: StateStorage) -> MlsDevice | None:
        """Continue from the saved state, whosever it is; None if there is none.

        Raises:
            StateFileError: the state is damaged.
        """
        saved = storage.load()
        if saved is None:
            return None
        state = SavedState.decode(saved)
        try:
            client = openmls.Client.load(state.mls)
        except openmls.MlsError as error:
            raise StateFileError("the saved MLS state is damaged") from error
        return cls(client, state, storage)

    def __repr__(self) -> str:
        return f"MlsDevice({self.owner.client_uri})"

    def save(self) -> None:
        """Write the whole state."""
        self.state.mls = self.client.save()
        self._storage.save(self.state.encode())

    # --- looking ---

    def record(self, room_id: str) -> RoomRecord:
        """The room's record, made on first use."""
        return self.state.rooms.setdefault(room_id, RoomRecord())

    def group(self, room_id: str) -> openmls.Group:
        """The room's group.

        Raises:
            NotInGroup: this device is in none.
        """
        for candidate in _group_ids(room_id):
            try:
                group = self.client.group(candidate)
                if group.is_active:
                    return group
            except openmls.UnknownGroup:  # try the other form of the ID
                continue
        raise NotInGroup(f"{self.owner.client_uri} is not in the group of {room_id}")

    def in_group(self, room_id: str) -> bool:
        """Whether this device can read and write in the room now."""
        try:
            self.group(room_id)
        except NotInGroup:  # that is the question
            return False
        return True

    def epoch(self, room_id: str) -> int:
        """The epoch of the room's group, as far as this device has followed it."""
        return self.group(room_id).epoch

    def state_epoch(self, room_id: str) -> int | None:
        """As ``epoch``, ``None`` outside the group."""
        return self.epoch(room_id) if self.in_group(room_id) else None

    def participants(self, room_id: str) -> ParticipantListData:
        """The room's participant list (user URIs and role indices)."""
        return ParticipantListData.decode(self.group(room_id).app_data()[PARTICIPANT_LIST])

    def sends_read_receipts(self, room_id: str, *, wanted: bool) -> bool:
        """Whether to report what one has read: as the room's policy says, and where it leaves that open, as
        its user wants.

        Raises:
            MimiDecodeError: the room's policy is malformed.
        """
        policy = read_receipts(self.group(room_id).app_data())
        return wanted if policy is Optionality.OPTIONAL else policy is Optionality.REQUIRED

    def entry_role(self, room_id: str) -> int:
        """The role of users whom this device adds without naming one."""
        data = self.group(room_id).app_data().get(ROLES_LIST)
        if data is None:
            return ROLE_REGULAR
        own = self.participants(room_id).role_of(user_uri(self.owner.user_id))
        return RoleData.decode(data).entry_role(NO_ROLE if own is None else own)

    def arrival_role(self, room_id: str) -> int:
        """The role of users who came by themselves: what the room gives to everybody, if it does."""
        data = self.group(room_id).app_data().get(ROLES_LIST)
        roles = None if data is None else RoleData.decode(data)
        lobby = None if roles is None else roles.role(NO_ROLE)
        if roles is None or lobby is None or not any(lobby.has(way) for way in _WAYS_IN):
            return self.entry_role(room_id)
        return roles.entry_role(NO_ROLE)

    def members(self, room_id: str) -> dict[int, LeafOwner]:
        """Who sits on which leaf; leaves with unreadable credentials are left out."""
        return _owners(self.group(room_id).members())

    # --- joining ---

    def create_group(
        self,
        room_id: str,
        *,
        external_senders: Sequence[tuple[bytes, bytes]] = (),
        policy: Preset | None = None,
        franking_agent: bytes | None = None,
    ) -> tuple[bytes, bytes]:
        """Make the room's group with this device as its only member and its user as its only participant: an
        admin, or in the role that ``policy`` gives to who makes the room. With the hub's ``franking_agent``
        (encoded FrankingAgentData) its messages are franked.

        Returns the GroupInfo and ratchet tree of epoch 0, which go with the first commit.
        """
        role = ROLE_ADMIN if policy is None else policy.creator_role
        creator = UserRolePair(user=user_uri(self.owner.user_id), role_index=role)
        components = {} if policy is None else policy.components()
        franking = {} if franking_agent is None else franking_components(franking_agent)
        group = self.client.create_group(
            group_id=group_id(room_id),
            app_data={
                PARTICIPANT_LIST: ParticipantListData(participants=(creator,)).encode(),
                **components,
                **franking,
            },
            external_senders=external_senders,
        )
        self.record(room_id)
        self.save()
        return group.group_info()

    def join_welcome(
        self, room_id: str, *, welcome: bytes, ratchet_tree: bytes | None, commit_event_id: str | None
    ) -> int:
        """Join by Welcome (an MLSMessage); returns the epoch. The caller saves.

        Raises:
            UntrustedAnswer: the Welcome is for another room than the server says.
            openmls.MlsError: it is not for this device, or false.
        """
        lost = self.record(room_id).lost
        if lost or not self.in_group(room_id):
            self.drop_group(room_id)
        # A false Welcome must not keep us from rejoining what we lost.
        self.record(room_id).lost = lost
        group = self.client.join_welcome(welcome=welcome, ratchet_tree=ratchet_tree)
        if group.group_id not in _group_ids(room_id):
            self.client.forget_group(group.group_id)
            raise UntrustedAnswer("the Welcome is for another room")
        record = self.record(room_id)
        record.commit_event_id, record.pending, record.lost = commit_event_id, None, False
        record.joined_epoch = group.epoch
        return group.epoch

    def join_external(
        self, room_id: str, *, group_info: bytes, ratchet_tree: bytes, proposals: Sequence[bytes], now: int
    ) -> PendingCommit:
        """Make the external commit that lets this device in, replacing a leaf it may have had; saved and
        pending.

        ``proposals`` are the pending proposals the hub listed; ``now`` is in seconds since the Unix epoch.

        Raises:
            UntrustedAnswer: the GroupInfo is of another room's group.
            openmls.MlsError: the GroupInfo or tree does not verify.
        """
        seen = openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=ratchet_tree, now=now)
        if seen.group_id not in _group_ids(room_id):
            raise UntrustedAnswer("the group information is of another room")
        own = [leaf for leaf, owner in _owners(seen.members()).items() if owner.client == self.owner.client]
        _, bundle = self.client.join_external(
            group_info=group_info,
            ratchet_tree=ratchet_tree,
            replace_leaf=own[0] if own else None,
            proposals=_self_removes(seen, proposals, own),
        )
        return self._keep(room_id, bundle, external=True, initial=None)

    def forget(self, room_id: str) -> None:
        """Drop the room's group and whatever was pending in it."""
        self.drop_group(room_id)
        self.save()

    def drop_group(self, room_id: str) -> None:
        """As ``forget``. The caller saves."""
        for known in _group_ids(room_id):
            if known in self.client.group_ids():
                self.client.forget_group(known)
        record = self.record(room_id)
        record.pending, record.lost, record.leaving = None, False, None

    # --- proposals ---

    def propose_leave(self, room_id: str) -> bytes:
        """The bundle of proposals by which this device's user leaves the room; saved before it is returned,
        and made once in an epoch.

        Raises:
            NotInGroup: this device is in no group.
        """
        group, record = self.group(room_id), self.record(room_id)
        known = record.leaving
        if (
            known is None
            or openmls.inspect_message(HandshakeBundle.decode(known).message).epoch != group.epoch
        ):
            known = record.leaving = propose_leave(group, self.owner)
            self.save()
        return known

    def left(self, room_id: str) -> None:
        """The hub knows that this user leaves."""
        self.record(room_id).leaving = None
        self.save()

    def withdraw_leave(self, room_id: str) -> None:
        """The hub did not take the proposals by which this user leaves: forget them."""
        record = self.record(room_id)
        if record.leaving is not None and self.in_group(room_id):
            group, bundle = self.group(room_id), HandshakeBundle.decode(record.leaving)
            made = {
                openmls.proposal_reference(message, ciphersuite=CIPHERSUITE)
                for message in (bundle.message, *bundle.more_proposals)
            }
            for reference in made & references(group):
                group.remove_pending_proposal(reference)
        self.left(room_id)

    def pending(self, room_id: str) -> set[bytes]:
        """The references of the proposals pending in the room's group; none outside of it."""
        return references(self.group(room_id)) if self.in_group(room_id) else set()

    def must_tidy(self, room_id: str) -> bool:
        """Whether somebody is to be removed from the group, or the hub before to be replaced in it, and this
        device could do it.
        """
        if not self.in_group(room_id):
            return False
        group = self.group(room_id)
        due = bool(leaving_leaves(group)) or self.needs_agent(room_id) or self.needs_sender(room_id)
        return due and not is_leaving(group)

    def hub(self, room_id: str) -> str:
        """The provider that orders the room, as far as the log has told."""
        return self.record(room_id).hub or room_domain(room_id)

    def needs_agent(self, room_id: str) -> bool:
        """Whether the room has moved to this device's provider, and its group names the franking agent of
        the hub before.
        """
        hub = self.record(room_id).hub
        if hub is None or hub != user_domain(self.owner.user_id) or not self.is_franked(room_id):
            return False
        try:
            return agent_uri(self.group(room_id).app_data()[FRANKING_AGENT]) != f"mimi://{hub}"
        except MimiDecodeError:
            return True  # whatever it is, it is not the hub's

    def needs_sender(self, room_id: str) -> bool:
        """Whether the room has moved to this device's provider, which is no external sender of its group."""
        hub = self.record(room_id).hub
        if hub != user_domain(self.owner.user_id) or PARTICIPANT_LIST not in self.group(room_id).app_data():
            return False
        name = f"mimi://{hub}".encode()
        return all(identity != name for _, identity in self.group(room_id).external_senders())

    def senders_with(self, room_id: str, hub: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """The external senders that a group is to have once its room has moved: the new hub (raw public key
        and content of its basic credential) in the place of those before.
        """
        record = self.record(room_id)
        hubs = {f"mimi://{name}".encode() for name in (record.hub, record.former_hub, room_domain(room_id))}
        others = [sender for sender in self.group(room_id).external_senders() if sender[1] not in hubs]
        return [hub, *others]

    def drop_proposals(self, room_id: str, named: Collection[bytes]) -> bool:
        """Forget proposals that the hub says are not valid any more; whether there were any."""
        if not self.in_group(room_id) or not drop(self.group(room_id), named):
            return False
        self.save()
        return True

    # --- commits ---

    def stage(
        self, room_id: str, change: Change, *, initial: tuple[bytes, bytes] | None = None
    ) -> PendingCommit | None:
        """Make a commit; it takes effect when the hub has accepted it. Saved before it is returned.

        ``None`` if ``change`` found nothing to do.
        """
        bundle = change(self.group(room_id))
        if bundle is None:
            return None
        return self._keep(room_id, bundle, external=False, initial=initial)

    def _keep(
        self,
        room_id: str,
        bundle: openmls.CommitBundle,
        *,
        external: bool,
        initial: tuple[bytes, bytes] | None,
    ) -> PendingCommit:
        handshake = HandshakeBundle(
            message=bundle.commit,
            welcome=None if bundle.welcome is None else welcome_struct(bundle.welcome),
            group_info=GroupInfoOption(full=bundle.group_info),
            ratchet_tree=RatchetTreeOption.full(bundle.ratchet_tree),
        )
        group_info, tree = initial or (None, None)
        pending = PendingCommit(
            digest=digest(bundle.commit),
            bundle=handshake.encode(),
            external=external,
            group_info=group_info,
            ratchet_tree=tree,
        )
        self.record(room_id).pending = pending
        self.save()
        return pending

    def commit_accepted(self, room_id: str, pending: PendingCommit, event_id: str | None) -> None:
        """The hub took the commit: make it the group's state. Learning it twice is learning it once."""
        if self.merge_if_own(room_id, pending.digest, event_id):
            self.save()

    def merge_if_own(self, room_id: str, commit_digest: bytes, event_id: str | None) -> bool:
        """Merge the pending commit if ``commit_digest`` is its SHA-256; whether it was. The caller saves."""
        record = self.record(room_id)
        if record.pending is None or record.pending.digest != commit_digest:
            return False
        for known in _group_ids(room_id):
            if known in self.client.group_ids():
                group = self.client.group(known)
                group.merge_pending_commit()
                if record.pending.external:
                    record.joined_epoch = group.epoch
                    self.owe_link_keys(room_id)
        if not record.pending.external:
            # It removed whoever had left; who is listed all the same came back by it, and the entry that says
            # so may reach us only after our next commit.
            listed = self.participants(room_id)
            record.gone = [user for user in record.gone if listed.role_of(user_uri(user)) is None]
        record.pending, record.merged, record.lost = None, commit_digest, False
        record.commit_event_id = event_id
        return True

    def discard_commit(self, room_id: str, pending: PendingCommit) -> None:
        """The hub did not take the commit: forget it."""
        if self.drop_pending(room_id, pending.digest):
            self.save()

    def drop_pending(self, room_id: str, commit_digest: bytes | None = None) -> bool:
        """Clear the pending commit (only the one given, if one is); whether there was one. The caller
        saves.
        """
        record = self.record(room_id)
        pending = record.pending
        if pending is None or (commit_digest is not None and pending.digest != commit_digest):
            return False
        for known in _group_ids(room_id):
            if known in self.client.group_ids():
                self.client.group(known).clear_pending_commit()
        record.pending = None
        return True

    def process(self, room_id: str, message: bytes, *, accepted_ms: int) -> openmls.Processed:
        """Process a handshake or application message by someone else. The caller saves.

        Args:
            accepted_ms: when the hub accepted it; key packages it adds have to have been valid then.

        Raises:
            NotInGroup, openmls.MlsError: nothing changed.
        """
        group = self.group(room_id)
        info = openmls.inspect_message(message)
        values: Mapping[int, bytes] = {}
        if info.content_type == "commit":
            values = new_app_data(group.app_data(), group.app_data_updates(message))
        return group.process(message, new_app_data=values, now=accepted_ms // 1000)

    # --- messages ---

    def encrypt(self, room_id: str, payload: bytes, *, txn_id: str) -> Outgoing:
        """Encrypt MIMI content for the room, once for each ``txn_id``; saved before it is returned.

        Raises:
            NotInGroup: this device is in no group, or on its way out of it.
            openmls.NotAllowed: proposals are pending, which have to be committed first.
        """
        message = self.state.outbox.get(txn_id)
        if message is None:
            if is_leaving(self.group(room_id)):
                raise NotInGroup(f"{self.owner.client_uri} is leaving the group of {room_id}")
            ciphertext = self._encrypt(room_id, payload)
            message = Outgoing(
                room_id=room_id, ciphertext=ciphertext, digest=digest(ciphertext), payload=payload
            )
            self.state.outbox[txn_id] = message
            self.save()
        return message

    def _encrypt(self, room_id: str, payload: bytes) -> bytes:
        group = self.group(room_id)
        if self.is_franked(room_id):
            return group.encrypt(payload, safe_aad=safe_aad(payload))
        return group.encrypt(payload)

    def is_franked(self, room_id: str) -> bool:
        """Whether the hub stamps the room's messages, so that each commits to its content."""
        return self.in_group(room_id) and FRANKING_AGENT in self.group(room_id).app_data()

    def prepare(self, room_id: str, content: MimiContent) -> MimiContent:
        """The content as it is sent: in a franked room it names its sender and its room."""
        if not self.is_franked(room_id):
            return content
        return with_claims(content, user_id=self.owner.user_id, room_id=room_id)

    def unsend(self, txn_id: str) -> None:
        """The hub refused the message: encrypt it anew next time."""
        if self.state.outbox.pop(txn_id, None) is not None:
            self.save()

    # --- items ---

    def acknowledge(self, item: Item) -> None:
        """The first item waiting has been dealt with."""
        if self.state.inbox and self.state.inbox[0] is item:
            del self.state.inbox[0]
            self.save()

    def clear_inbox(self) -> None:
        """Acknowledge everything that waits, unseen."""
        if self.state.inbox:
            self.state.inbox.clear()
            self.save()

    def owe_link_keys(self, room_id: str) -> None:
        """In a minimal metadata room: remember to tell who is who, as somebody came who may not know it. The
        caller saves.
        """
        if self.owner.pseudonym is not None and room_id not in self.state.unshared:
            self.state.unshared.append(room_id)

    def deliver(self, items: Iterable[Item]) -> None:
        """Put items into the inbox. The caller saves."""
        self.state.inbox.extend(items)


def role_index(power_level: int) -> int:
    """The role a user of that power level has in the participant list."""
    return role_of_power_level(power_level).index


def _self_removes(group: openmls.PublicGroup, proposals: Sequence[bytes], own: Sequence[int]) -> list[bytes]:
    """The proposals an external commit may carry by reference: others have to wait for a member. Leaves of
    our ``own`` are replaced by value.
    """
    kept = []
    for proposal in proposals:
        try:
            found = group.stage_proposal(proposal)
            if found.kind == "self_remove" and found.removed_leaf not in own:
                kept.append(proposal)
        except openmls.MlsError:  # not valid in this epoch; the hub would refuse a commit that has it
            continue
    return kept


def digest(message: bytes) -> bytes:
    """SHA-256, by which own messages are recognised in the log."""
    return sha256(message).digest()


def _group_ids(room_id: str) -> tuple[bytes, bytes]:
    return group_id(room_id), room_id.encode()


def _owners(members: Iterable[openmls.Member]) -> dict[int, LeafOwner]:
    owners: dict[int, LeafOwner] = {}
    for member in members:
        try:
            owners[member.leaf_index] = leaf_owner(member.credential, signature_key=member.signature_key)
        except IdentifierError:
            # Another implementation's credential, or somebody's pseudonym; a member all the same.
            continue
    return owners
