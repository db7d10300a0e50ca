"""A room, its hub and members who follow every handshake, for tests with standalone proposals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import openmls

from linearized.client.app_data import Update, new_app_data
from linearized.mimi.handshake import HandshakeBundle
from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate, UserRolePair
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_id_from_uri, user_uri
from linearized.protocol.state import membership
from linearized.room.admission import COMMIT, PROPOSAL
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.devices import Published, nothing_published
from linearized.room.parents import NO_PARENTS, Parents
from linearized.room.proposals import messages_of
from linearized.room.room import Room
from linearized.room.submissions import Accepted, GroupUpdate, Handshake, LocalEvent, Submission
from tests.room.support import ALICE, MLS, NOW, ROOM, A, Member, handshake, new_room, state_event

HUB_KEY = openmls.SignatureKeyPair.generate()
HUB_SENDER = (HUB_KEY.public_key, b"mimi://a.example")
HUB_USER = "@_mimi:a.example"
B_KEY = openmls.SignatureKeyPair.generate()
B_SENDER = (B_KEY.public_key, b"mimi://b.example")
PUBLIC = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})


@dataclass(frozen=True)
class _Update:
    payload: bytes
    component_id: int = PARTICIPANT_LIST
    operation: str = "update"


class Party:
    """Alice, the others, and the log of what the hub took."""

    def __init__(
        self,
        *others: Member,
        senders: Sequence[tuple[bytes, bytes]] = (HUB_SENDER,),
        initial: Sequence[LocalEvent] = (PUBLIC,),
        app_data: Mapping[int, bytes] | None = None,
        role: int = 1,
        published: Published = nothing_published,
        authorities: Authorities = nobody_trusted,
        founder: openmls.Client | None = None,
        parents: Parents = NO_PARENTS,
        creation: JsonObject | None = None,
    ) -> None:
        self.room = new_room(
            initial=initial,
            signer=HUB_KEY,
            published=published,
            authorities=authorities,
            parents=parents,
            creation=creation,
        )
        self.alice = Member(ALICE)
        self.alice.client = founder or self.alice.client
        self.members: list[Member] = [self.alice]
        self.group: GroupUpdate
        self.pending: list[tuple[bytes, int]] = []
        self.submit(self.alice.create(external_senders=senders, app_data=app_data), by=self.alice)
        if others:
            accepted = self.submit(self.alice.add(*others, role=role), by=self.alice)
            for other in others:
                other.join(accepted)
                self.members.append(other)

    def submit(self, submission: Submission, *, by: Member | None = None) -> Accepted:
        """Have the hub take something, and everybody follow."""
        accepted = self.room.submit(submission, now=NOW)
        if accepted.group is not None:
            self.group, self.pending = accepted.group, []
        for entry in accepted.entries:
            self._follow(entry.event, by)
        return accepted

    def _follow(self, event: Event, by: Member | None) -> None:
        if event.type == COMMIT:
            message = decode_base64(event.content["message"])
            if by is not None:
                by.accept()
            for each in list(self.members):
                if each is not by and process(each, message).self_removed:
                    self.members.remove(each)
            if by is not None and by not in self.members:
                self.members.append(by)
        elif event.type == PROPOSAL:
            for message in messages_of(event.content):
                self.pending.append((message, NOW))
                for each in self.members:
                    if each is not by or event.sender == HUB_USER:
                        process(each, message)

    def join(self, who: Member) -> Handshake:
        """An external commit with every SelfRemove that is pending."""
        seen = openmls.PublicGroup.observe(
            group_info=self.group.group_info, ratchet_tree=self.group.ratchet_tree, now=MLS.now
        )
        own = [leaf.leaf_index for leaf in seen.members() if leaf.identity == who.client.identity]
        leaving = [
            message
            for message, _ in self.pending
            if (found := seen.stage_proposal(message)).kind == "self_remove" and found.removed_leaf not in own
        ]
        who.client = openmls.Client.create(identity=who.client.identity)
        who.group, bundle = who.client.join_external(
            group_info=self.group.group_info,
            ratchet_tree=self.group.ratchet_tree,
            replace_leaf=own[0] if own else None,
            proposals=leaving,
        )
        return handshake(who, bundle)

    def restored(self) -> Room:
        """The room as another start of the hub finds it: the group of the last commit, and the log since."""
        return Room(
            room_id=ROOM,
            version=self.room.version,
            identity=A,
            mls=MLS,
            vouched_domains=frozenset({"matrix.example"}),
            signer=HUB_KEY,
            state=self.room.state,
            head=self.room.log.head,
            group=MLS.load(
                self.group.snapshot, group_info=self.group.group_info, ratchet_tree=self.group.ratchet_tree
            ),
            pending=self.pending,
            last_commit_id=self.room.last_commit_id,
        )

    def check(self) -> None:
        """Members, hub and a restarted hub agree about the group and what is pending in it."""
        pending = references(self.room)
        assert references(self.restored()) == pending
        for each in self.members:
            assert each.joined().epoch == self.room.epoch
            assert {found.reference for found in each.joined().pending_proposals()} == set(pending)

    def agree(self) -> None:
        """After a member's commit: participant list, joined users and leaves are the same users."""
        group = self.group_of_hub()
        listed = {user_id_from_uri(pair.user) for pair in self.members[0].participants().participants}
        leaves = {owner_of(leaf.identity) for leaf in group.members()}
        assert leaves <= listed
        assert all(membership(self.room.state, user) == "join" for user in leaves)
        assert all(membership(self.room.state, user) in {"join", "invite"} for user in listed)

    def group_of_hub(self) -> openmls.PublicGroup:
        found = self.room.log.group._group
        assert found is not None
        return found


def owner_of(identity: bytes) -> str:
    _, _, provider, _, user, _ = identity.decode().split("/")
    return f"@{user}:{provider}"


def references(room: Room) -> list[bytes]:
    group = room.log.group._group
    assert group is not None
    return sorted(found.reference or b"" for found in group.proposals())


def process(member: Member, message: bytes) -> openmls.Processed:
    group = member.joined()
    values = {}
    if openmls.inspect_message(message).content_type == "commit":
        values = new_app_data(group.app_data(), group.app_data_updates(message))
    return group.process(message, new_app_data=values, now=MLS.now)


def offer(sender: Member, *messages: bytes, introduced: Collection[bytes] = ()) -> Handshake:
    """A bundle of proposals."""
    bundle = HandshakeBundle(message=messages[0], more_proposals=messages[1:])
    return Handshake(bundle=bundle, provider=sender.provider, introduced=frozenset(introduced))


def propose_update(
    sender: Member, *, removed: Sequence[str] = (), added: Sequence[str] = (), role: int = 1
) -> bytes:
    """A proposal to change the participant list."""
    present = sender.participants()
    indices = [present.index_of(user_uri(user)) for user in removed]
    update = ParticipantListUpdate(
        removed=tuple(index for index in indices if index is not None),
        added=tuple(UserRolePair(user=user_uri(user), role_index=role) for user in added),
    )
    return sender.joined().propose_app_data_update(PARTICIPANT_LIST, update.encode())


def leave(sender: Member, *devices: Member) -> Handshake:
    """What a leaving client sends: it goes, its user's other devices go, and the user is off the list."""
    group = sender.joined()
    others = [group.propose_remove(leaf_of(sender, device)) for device in devices]
    unlisted = propose_update(sender, removed=[sender.user_id])
    return offer(sender, group.propose_self_remove(), *others, unlisted)


def leaf_of(sender: Member, other: Member) -> int:
    (found,) = (
        leaf.leaf_index for leaf in sender.joined().members() if leaf.identity == other.client.identity
    )
    return found


def commit_pending(
    sender: Member,
    *,
    update: ParticipantListUpdate | None = None,
    add: Sequence[bytes] = (),
    remove: Sequence[int] = (),
    pending: bool = True,
) -> Handshake:
    """A commit of whatever is pending, and more."""
    group = sender.joined()
    own = [] if update is None else [_Update(update.encode())]
    updates: list[Update] = [*(group.pending_app_data_updates() if pending else ()), *own]
    bundle = group.commit(
        add=add,
        remove=remove,
        app_data_updates={each.component_id: each.payload for each in own},
        new_app_data=new_app_data(group.app_data(), updates),
        pending=pending,
    )
    return handshake(sender, bundle)
