"""A room, its hub and MLS clients for tests: real keys, real MLS bytes, a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import openmls
import pytest

from linearized.mimi.commit_parts import commit_parts
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle, RatchetTreeOption, welcome_struct
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    UserRolePair,
    apply_update,
)
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import parse_lpdu
from linearized.protocol.identifiers import client_uri, group_id, user_uri
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.protocol.verify import verify_lpdu
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.admission import ALGORITHM
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.devices import Published, nothing_published
from linearized.room.grouping import NO_AGENTS
from linearized.room.parents import NO_PARENTS, Parents
from linearized.room.room import Room
from linearized.room.submissions import (
    Accepted,
    ApplicationMessage,
    GroupUpdate,
    Handshake,
    LinearizedPdu,
    LocalEvent,
    Reason,
    Rejected,
    Submission,
)
from linearized.server.mls import OpenMls

# The binding's clients hold key packages to the system's clock, so the tests' time is the time they start.
NOW = int(time.time()) * 1000
ROOM = "!clubhouse:a.example"
ALICE = "@alice:a.example"
ANNA = "@anna:a.example"
BOB = "@bob:b.example"
CAROL = "@carol:matrix.example"
LIFETIME = 28 * 24 * 3600


def identity(name: str) -> ServerIdentity:
    return ServerIdentity(name=name, key=SigningKey.generate("test", name.encode().ljust(32, b"\0")[:32]))


A = identity("a.example")
B = identity("b.example")


def linearized_pdu(pdu: JsonObject, origin: ServerIdentity, version: RoomVersion) -> LinearizedPdu:
    """An LPDU as the server hands it to the room: checked."""
    keys = {origin.key.key_id: origin.key.verify_key}
    verified = verify_lpdu(parse_lpdu(pdu, version), version=version, origin=origin.name, keys=keys)
    return LinearizedPdu(lpdu=verified)


class SystemMls(OpenMls):
    """The binding checks lifetimes against the system's clock too, so the tests' key packages live in it."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.now = NOW // 1000


MLS = SystemMls()


def new_room(
    *,
    version: str = "dev.linearized.1",
    encrypted: bool = True,
    algorithm: str = ALGORITHM,
    initial: Sequence[LocalEvent] = (),
    vouched: frozenset[str] = frozenset({"matrix.example"}),
    agents: Mapping[int, bytes] = NO_AGENTS,
    signer: openmls.SignatureKeyPair | None = None,
    published: Published = nothing_published,
    authorities: Authorities = nobody_trusted,
    parents: Parents = NO_PARENTS,
    creation: JsonObject | None = None,
) -> Room:
    """A room that Alice has just created."""
    room = Room(
        room_id=ROOM,
        version=get_version(version),
        identity=A,
        mls=MLS,
        vouched_domains=vouched,
        agents=agents,
        signer=signer,
        published=published,
        authorities=authorities,
        save_every=1,
        parents=parents,
    )
    content: JsonObject = {"room_version": version, **(creation or {})}
    if encrypted:
        content["encryption"] = {"algorithm": algorithm}
    create = LocalEvent(sender=ALICE, type="m.room.create", state_key="", content=content)
    for event in (create, member(ALICE, "join"), *initial):
        room.submit(event, now=NOW)
    return room


def loaded(group: GroupUpdate) -> openmls.PublicGroup:
    return MLS.load(group.snapshot, group_info=group.group_info, ratchet_tree=group.ratchet_tree)


def member(user_id: str, membership: str, *, sender: str | None = None) -> LocalEvent:
    return LocalEvent(
        sender=sender or user_id,
        type="m.room.member",
        state_key=user_id,
        content={"membership": membership},
    )


def state_event(sender: str, event_type: str, content: JsonObject, state_key: str = "") -> LocalEvent:
    return LocalEvent(sender=sender, type=event_type, state_key=state_key, content=content)


def refusal(room: Room, submission: Submission, code: Reason) -> Rejected:
    """Submit what must be refused with ``code``, and check that nothing changed."""
    before = (room.head_seq, dict(room.state), room.epoch, room.last_commit_id)
    with pytest.raises(Rejected) as raised:
        room.submit(submission, now=NOW)
    assert raised.value.code is code, raised.value
    assert before == (room.head_seq, dict(room.state), room.epoch, room.last_commit_id)
    return raised.value


@dataclass
class Member:
    """One MLS client of a user, and its view of the room's group."""

    user_id: str
    device_id: str = "DEV"
    client: openmls.Client = field(init=False)
    group: openmls.Group | None = None

    def __post_init__(self) -> None:
        self.client = openmls.Client.create(identity=client_uri(self.user_id, self.device_id).encode())

    @property
    def provider(self) -> str:
        domain = self.user_id.partition(":")[2]
        return "a.example" if domain == "matrix.example" else domain

    def joined(self) -> openmls.Group:
        assert self.group is not None
        return self.group

    def key_package(self) -> bytes:
        return self.client.key_package(now=MLS.now, lifetime=LIFETIME)

    def create(
        self,
        *,
        app_data: Mapping[int, bytes] | None = None,
        name: bytes | None = None,
        role: int = 2,
        external_senders: Sequence[tuple[bytes, bytes]] = (),
    ) -> Handshake:
        """Create the room's group and a first, empty commit."""
        listed = {PARTICIPANT_LIST: participant_list((self.user_id, role))}
        self.group = self.client.create_group(
            group_id=name if name is not None else group_id(ROOM),
            app_data=listed if app_data is None else app_data,
            external_senders=external_senders,
        )
        initial = self.group.group_info()
        return handshake(self, self.group.commit(), initial_group=initial)

    def add(self, *members: Member, role: int = 1, listed: bool = True) -> Handshake:
        """A commit that adds clients, and their users to the participant list."""
        group = self.joined()
        present = {pair.user for pair in self.participants().participants}
        users = dict.fromkeys(user_uri(new.user_id) for new in members)
        update = ParticipantListUpdate(
            added=tuple(UserRolePair(user=user, role_index=role) for user in users if user not in present)
        )
        packages = [new.key_package() for new in members]
        if not (listed and update.added):
            return handshake(self, group.commit(add=packages))
        return self.change(update, add=packages)

    def remove(self, *members: Member, unlist: bool = True) -> Handshake:
        """A commit that removes clients, and their users from the participant list."""
        group = self.joined()
        leaves = [
            leaf.leaf_index
            for leaf in group.members()
            if any(leaf.identity == gone.client.identity for gone in members)
        ]
        indices = [self.participants().index_of(user_uri(gone.user_id)) for gone in members]
        update = ParticipantListUpdate(removed=tuple(index for index in indices if index is not None))
        if not unlist:
            return handshake(self, group.commit(remove=leaves))
        return self.change(update, remove=leaves)

    def change(
        self, update: ParticipantListUpdate, *, add: Sequence[bytes] = (), remove: Sequence[int] = ()
    ) -> Handshake:
        """A commit with a participant list update of the caller's making."""
        result = apply_update(self.participants(), update)
        bundle = self.joined().commit(
            add=add,
            remove=remove,
            app_data_updates={PARTICIPANT_LIST: update.encode()},
            new_app_data={PARTICIPANT_LIST: result.encode()},
        )
        return handshake(self, bundle)

    def participants(self) -> ParticipantListData:
        return ParticipantListData.decode(self.joined().app_data()[PARTICIPANT_LIST])

    def join(self, accepted: Accepted) -> None:
        effect = accepted.welcomes[0]
        self.group = self.client.join_welcome(welcome=effect.welcome, ratchet_tree=effect.ratchet_tree)

    def rejoin(self, accepted: Accepted) -> Handshake:
        """Lose everything and come back by external commit, over the group as ``accepted`` left it."""
        assert accepted.group is not None
        self.client = openmls.Client.create(identity=self.client.identity)
        old = [
            leaf.leaf_index
            for leaf in openmls.PublicGroup.observe(
                group_info=accepted.group.group_info, ratchet_tree=accepted.group.ratchet_tree, now=MLS.now
            ).members()
            if leaf.identity == self.client.identity
        ]
        self.group, bundle = self.client.join_external(
            group_info=accepted.group.group_info,
            ratchet_tree=accepted.group.ratchet_tree,
            replace_leaf=old[0] if old else None,
        )
        return handshake(self, bundle)

    def message(self, text: bytes = b"hello") -> ApplicationMessage:
        return ApplicationMessage(
            message=self.joined().encrypt(text), sending_uri=user_uri(self.user_id), provider=self.provider
        )

    def accept(self) -> None:
        self.joined().merge_pending_commit()


def participant_list(*users: tuple[str, int]) -> bytes:
    return ParticipantListData(
        participants=tuple(UserRolePair(user=user_uri(user), role_index=role) for user, role in users)
    ).encode()


def handshake(
    sender: Member, bundle: openmls.CommitBundle, *, initial_group: tuple[bytes, bytes] | None = None
) -> Handshake:
    """A submission whose added key packages were all handed out by the providers they name."""
    added = commit_parts(bundle.commit).key_packages
    return Handshake(
        introduced=frozenset(
            openmls.inspect_key_package(package, now=MLS.now).credential for package in added
        ),
        bundle=HandshakeBundle(
            message=bundle.commit,
            welcome=welcome_struct(bundle.welcome) if bundle.welcome is not None else None,
            group_info=GroupInfoOption(full=bundle.group_info),
            ratchet_tree=RatchetTreeOption.full(bundle.ratchet_tree),
        ),
        provider=sender.provider,
        initial_group=initial_group,
    )


def grouped_room(
    *others: Member, initial: Sequence[LocalEvent] = (), published: Published = nothing_published
) -> tuple[Room, Member, Accepted]:
    """A room with a group of Alice and the others, and what the last commit became."""
    room = new_room(initial=initial, published=published)
    alice = Member(ALICE)
    accepted = room.submit(alice.create(), now=NOW)
    alice.accept()
    if others:
        accepted = room.submit(alice.add(*others), now=NOW)
        alice.accept()
        for other in others:
            other.join(accepted)
    return room, alice, accepted
