"""Being notified: what the hub of another provider's room fans out to us becomes our copy of its log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import openmls
import orjson
import pytest
import structlog

from linearized.mimi.handshake import RatchetTreeOption, RatchetTreeRepresentation
from linearized.mimi.messages import FanoutMessage
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import client_uri, hub_user
from linearized.room.proposals import messages_of
from linearized.room.submissions import LocalEvent, Rejected
from linearized.store.base import EntryRow, MembershipRow, Role, RoomAppend, RoomRow, ToDeviceRow
from tests.room.support import ALICE, BOB, MLS, Member
from tests.server.support import Network, Server, running_server

from .support import Provider, with_packages

ROOM = "!clubhouse:b.example"
URI = "mimi://b.example/r/clubhouse"
NOW = 1_790_000_000_000


@dataclass
class Hub:
    """A room of b.example's Bob, its hub played by the test, and Alice's device at a.example."""

    server: Server
    other: Provider
    bob: Member
    alice: openmls.Client
    time: int = NOW
    packages: dict[bytes, bytes] = field(default_factory=dict)
    fanned_out: list[bytes] = field(default_factory=list)

    def fan_out(self, message: bytes, tree: bytes | None = None) -> bytes:
        self.time += 1
        option = RatchetTreeOption.full(tree) if tree is not None else None
        encoded = FanoutMessage(timestamp=self.time, message=message, ratchet_tree_option=option).encode()
        self.fanned_out.append(encoded)
        return encoded

    def adding(self, *devices: openmls.Client) -> list[bytes]:
        """Bob adds clients: the commit and the Welcome."""
        packages = [self.package(device) for device in devices]
        bundle = self.bob.joined().commit(add=packages)
        self.bob.accept()
        assert bundle.welcome is not None
        return [self.fan_out(bundle.commit), self.fan_out(bundle.welcome, bundle.ratchet_tree)]

    def package(self, device: openmls.Client) -> bytes:
        return self.packages[device.identity]

    def message(self, text: bytes = b"hello") -> bytes:
        return self.fan_out(self.bob.joined().encrypt(text))

    def commit(self) -> bytes:
        bundle = self.bob.joined().commit()
        self.bob.accept()
        return self.fan_out(bundle.commit)

    async def notify(self, *parts: bytes, target: str = URI) -> int:
        return (await self.other.ask("notify", target, b"".join(parts))).status_code

    def log(self, room_id: str = ROOM) -> list[EntryRow]:
        entries = self.server.node.store.entries(room_id, after=0, limit=100)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        return entries

    def welcomes(self, device: str = "PHONE", user: str = ALICE) -> list[ToDeviceRow]:
        return self.server.node.store.to_device(user, device, after=0, limit=10)


@asynccontextmanager
async def hub(directory: Path) -> AsyncIterator[Hub]:
    network = Network()
    other = Provider("b.example", network)
    async with running_server("a.example", directory, network) as server:
        alice = await with_packages(server, ALICE, "PHONE", packages=0)
        bob = Member(BOB)
        bob.create(name=b"mimi://b.example/g/clubhouse")
        bob.accept()
        found = Hub(server, other, bob, alice)
        await with_package(found, ALICE, "PHONE", alice)
        yield found


async def with_package(
    h: Hub, user_id: str, device_id: str, client: openmls.Client | None = None
) -> openmls.Client:
    """A device of ours whose key package Bob has."""
    made = await with_packages(h.server, user_id, device_id, client=client)
    claimed = await h.server.node.store.claim_key_package(
        user_id=user_id, device_id=device_id, ciphersuites=[1], now_ms=MLS.now * 1000
    )
    assert claimed is not None
    h.packages[made.identity] = claimed.key_package
    return made


def create_entry() -> EntryRow:
    return EntryRow(
        room_id=ROOM,
        seq=1,
        event_id="$create",
        type="m.room.create",
        state_key="",
        sender=BOB,
        origin_server_ts=0,
        epoch=None,
        pdu=b"{}",
    )


def summary(entries: Sequence[EntryRow]) -> list[str]:
    return [entry.type for entry in entries]


async def test_a_welcome_begins_our_copy_and_reaches_the_device_with_the_tree(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        ticket = h.server.node.notifier.ticket(ALICE)
        commit, welcome = h.adding(h.alice)
        assert await h.notify(commit, welcome, h.message()) == 201
        row = h.server.node.rooms.row(ROOM)
        assert row is not None
        assert (row.role, row.hub, row.head_seq) == (Role.FOLLOWER, "b.example", 1)
        (found,) = h.welcomes()
        content = orjson.loads(found.content)
        assert content["room_id"] == ROOM
        group = h.alice.join_welcome(
            welcome=decode_base64(content["ciphertext"]), ratchet_tree=decode_base64(content["ratchet_tree"])
        )
        (entry,) = h.log()
        assert (entry.type, entry.sender, entry.epoch) == (
            "m.room.encrypted",
            hub_user("b.example"),
            group.epoch,
        )
        assert entry.origin_server_ts == h.time
        ciphertext = decode_base64(orjson.loads(entry.pdu)["content"]["ciphertext"])
        assert group.process(ciphertext).plaintext == b"hello"
        (member,) = h.server.node.store.memberships(ROOM)
        assert (member.user_id, member.membership) == (ALICE, "join")
        assert ticket.is_set()


@pytest.mark.parametrize(
    "batches",
    [
        [[0, 1, 2, 3], [0, 1, 2, 3]],
        [[0, 1], [0, 1, 2], [0, 1, 2, 3]],
        [[0, 1, 2], [2, 3], [1, 2, 3]],
        [[0, 1, 1, 2, 2, 3, 3]],
        [[1], [1, 2], [2, 3], [3]],
    ],
)
async def test_what_is_sent_again_in_whatever_batches_is_stored_once(
    tmp_path: Path, batches: list[list[int]]
) -> None:
    async with hub(tmp_path) as h:
        parts = [*h.adding(h.alice), h.message(), h.commit()]
        for batch in batches:
            assert await h.notify(*(parts[index] for index in batch)) == 201
        logged = [kind for kind in summary(h.log()) if kind != "m.mls.commit"]
        assert logged == ["m.room.encrypted"]
        assert len({entry.event_id for entry in h.log()}) == len(h.log())
        assert summary(h.log())[-1] == "m.mls.commit"
        assert len(h.welcomes()) == 1


async def test_two_devices_of_two_users_get_one_welcome_each(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        tablet = await with_package(h, ALICE, "TABLET")
        anna = await with_package(h, "@anna:a.example", "PC")
        parts = h.adding(h.alice, tablet, anna)
        for _ in range(2):
            assert await h.notify(*parts) == 201
        assert [len(h.welcomes(device)) for device in ("PHONE", "TABLET")] == [1, 1]
        assert len(h.welcomes("PC", "@anna:a.example")) == 1
        members = {member.user_id for member in h.server.node.store.memberships(ROOM)}
        assert members == {ALICE, "@anna:a.example"}


async def test_a_second_device_later_changes_no_membership(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        assert await h.notify(*h.adding(h.alice)) == 201
        before = h.server.node.store.memberships(ROOM)
        tablet = await with_package(h, ALICE, "TABLET")
        assert await h.notify(*h.adding(tablet)) == 201
        assert h.server.node.store.memberships(ROOM) == before
        assert len(h.welcomes("TABLET")) == 1


async def test_a_welcome_for_nobody_here_and_messages_of_unknown_rooms_are_dropped(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        stranger = Member("@carol:c.example")
        h.packages[stranger.client.identity] = stranger.key_package()
        parts = [*h.adding(stranger.client), h.message()]
        assert await h.notify(*parts) == 201
        assert h.server.node.rooms.row(ROOM) is None
        # Nothing is kept for a room that is not: names alone must not fill our memory.
        assert not h.server.node.rooms.following._locks


async def test_only_the_hub_of_a_room_is_heard_about_it(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        parts = h.adding(h.alice)
        assert await h.notify(*parts, target="mimi://a.example/r/clubhouse") == 403
        assert await h.notify(*parts, target="mimi://c.example/r/clubhouse") == 403
        assert await h.notify(*parts, target="clubhouse") == 400
        assert await h.notify(*parts) == 201
        other = Provider("c.example", h.other.network)
        assert (await other.ask("notify", URI, h.message())).status_code == 403
        assert not h.log()


async def test_garbage_is_refused_whole_and_changes_nothing(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        assert await h.notify(*h.adding(h.alice)) == 201
        good, later = h.message(), h.commit()
        proposal = h.fan_out(h.bob.joined().propose_remove(1))
        for bad in (b"\0", later[:-1], b"\xff" * 40, good[:8] + b"\0\1\0\7" + good[12:]):
            assert await h.notify(good, bad) == 400, bad
        assert not h.log()
        assert await h.notify(good, later, proposal) == 201
        assert summary(h.log()) == ["m.room.encrypted", "m.mls.commit", "m.mls.proposal"]


async def test_a_message_that_only_frames_well_is_refused(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        assert await h.notify(*h.adding(h.alice)) == 201
        commit = h.commit()
        for position in range(0, len(commit), 7):
            spoilt = commit[:position] + bytes([commit[position] ^ 0x55]) + commit[position + 1 :]
            assert await h.notify(spoilt) in {201, 400}


async def test_a_room_of_another_role_takes_no_notifications_but_a_participants_welcomes(
    tmp_path: Path,
) -> None:
    async with hub(tmp_path) as h:
        store = h.server.node.store
        row = RoomRow(
            room_id=ROOM, version="I.1", role=Role.PARTICIPANT, hub="b.example", head_seq=0, epoch=None
        )
        await store.append(RoomAppend(room_id=ROOM, room=row, entries=(create_entry(),)))
        parts = [*h.adding(h.alice), h.message()]
        assert await h.notify(*parts) == 201
        assert summary(h.log()) == ["m.room.create"]
        assert not store.memberships(ROOM)
        assert len(h.welcomes()) == 1
        moved = RoomRow(
            room_id=ROOM, version="I.1", role=Role.PARTICIPANT, hub="c.example", head_seq=0, epoch=None
        )
        await store.append(RoomAppend(room_id=ROOM, room=moved))
        assert await h.notify(*parts) == 403


async def test_a_room_known_from_an_invite_is_followed_once_its_user_is_welcomed(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        store = h.server.node.store
        row = RoomRow(
            room_id=ROOM, version="I.1", role=Role.PARTICIPANT, hub="b.example", head_seq=0, epoch=None
        )
        invite = MembershipRow(room_id=ROOM, user_id=ALICE, membership="invite", seq=0)
        await store.append(RoomAppend(room_id=ROOM, room=row, memberships=(invite,)))
        assert await h.notify(h.message()) == 201
        assert (store.room(ROOM), store.memberships(ROOM)) == (row, [invite])
        assert await h.notify(*h.adding(h.alice), h.message()) == 201
        followed = store.room(ROOM)
        assert followed is not None
        assert followed.role is Role.FOLLOWER
        assert summary(h.log()) == ["m.room.encrypted"]
        assert [member.membership for member in store.memberships(ROOM)] == ["join"]


async def test_a_welcome_without_a_tree_is_passed_on_without_one(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        bundle = h.bob.joined().commit(add=[h.package(h.alice)])
        assert bundle.welcome is not None
        elsewhere = RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE)
        part = FanoutMessage(timestamp=1, message=bundle.welcome, ratchet_tree_option=elsewhere).encode()
        assert await h.notify(part) == 201
        (found,) = h.welcomes()
        assert orjson.loads(found.content)["ratchet_tree"] == ""
        assert client_uri(ALICE, "PHONE").encode() == h.alice.identity


async def test_proposals_keep_together_and_stapled_ones_are_the_same_entry_when_they_come_alone(
    tmp_path: Path,
) -> None:
    async with hub(tmp_path) as h:
        tablet = await with_package(h, ALICE, "TABLET")
        assert await h.notify(*h.adding(h.alice, tablet)) == 201
        group = h.bob.joined()
        first, second = group.propose_remove(1), group.propose_remove(2)
        alone = FanoutMessage(timestamp=7, message=first, more_proposals=(second,)).encode()
        assert await h.notify(alone, alone) == 201
        (entry,) = h.log()
        assert messages_of(orjson.loads(entry.pdu)["content"]) == [first, second]
        group.clear_pending_proposals()
        commit = group.commit().commit
        stapled = FanoutMessage(timestamp=7, message=commit, external_proposals=(first, second)).encode()
        assert await h.notify(stapled, alone) == 201
        assert summary(h.log()) == ["m.mls.proposal", "m.mls.commit"]
        later = FanoutMessage(timestamp=8, message=commit, external_proposals=(second,)).encode()
        assert await h.notify(later) == 201
        assert summary(h.log())[2:] == ["m.mls.commit", "m.mls.proposal"]


async def test_a_user_who_leaves_a_followed_room_is_given_nothing_more(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        assert await h.notify(*h.adding(h.alice), h.message()) == 201
        rooms, store = h.server.node.rooms, h.server.node.store
        row = rooms.row(ROOM)
        assert row is not None
        ticket = h.server.node.notifier.ticket(ALICE)
        leaving = LocalEvent(
            sender=ALICE, type="m.room.member", state_key=ALICE, content={"membership": "leave"}
        )
        assert (await rooms.send(ROOM, leaving)).startswith("$")
        (member,) = store.memberships(ROOM)
        assert (member.membership, member.seq) == ("leave", row.head_seq)
        assert ticket.is_set()
        with pytest.raises(Rejected):
            await rooms.send(ROOM, replace(leaving, state_key="@anna:a.example"))


def membership(h: Hub, user: str = ALICE) -> tuple[str, int]:
    """A user's membership here, and the last entry they may see."""
    (row,) = [row for row in h.server.node.store.memberships(ROOM) if row.user_id == user]
    return row.membership, row.seq


def removing(h: Hub, *leaves: int) -> bytes:
    """Bob commits the removal of leaves, and what is pending."""
    bundle = h.bob.joined().commit(remove=leaves)
    h.bob.accept()
    return h.fan_out(bundle.commit)


async def test_a_membership_ends_with_the_commit_that_removes_the_users_last_leaf(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        tablet = await with_package(h, ALICE, "TABLET")
        anna = await with_package(h, "@anna:a.example", "PC")
        assert await h.notify(*h.adding(h.alice, tablet, anna), h.message()) == 201
        # One of two devices: its user stays.
        assert await h.notify(removing(h, 1)) == 201
        assert membership(h) == ("join", 0)
        ticket = h.server.node.notifier.ticket(ALICE)
        assert await h.notify(removing(h, 2), h.message()) == 201
        assert membership(h) == ("leave", 3)
        assert membership(h, "@anna:a.example") == ("join", 0)
        assert ticket.is_set()
        # With the last of our users the room ends here: what else is sent is for nobody.
        assert await h.notify(removing(h, 3), h.message()) == 201
        assert membership(h, "@anna:a.example") == ("leave", 5)
        assert await h.notify(h.message(), h.commit()) == 201
        assert len(h.log()) == 5
        assert h.server.node.store.followed_group(ROOM) is None


async def test_a_membership_ends_with_the_hubs_proposal_to_remove_all_of_a_user(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        signer = openmls.SignatureKeyPair.generate()
        h.bob = Member(BOB)
        h.bob.create(
            name=b"mimi://b.example/g/clubhouse", external_senders=[(signer.public_key, b"mimi://b.example")]
        )
        h.bob.accept()
        tablet = await with_package(h, ALICE, "TABLET")
        assert await h.notify(*h.adding(h.alice, tablet)) == 201
        group = h.bob.joined()
        info, tree = group.group_info()
        public = openmls.PublicGroup.observe(group_info=info, ratchet_tree=tree)
        first, second = (
            public.propose_remove(signer=signer, sender_index=0, leaf_index=leaf) for leaf in (1, 2)
        )
        assert await h.notify(h.fan_out(first)) == 201
        assert membership(h) == ("join", 0)
        assert await h.notify(h.fan_out(second)) == 201
        assert membership(h) == ("leave", 2)


async def test_a_members_proposal_ends_nothing_until_it_is_committed(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        assert await h.notify(*h.adding(h.alice)) == 201
        proposal = h.bob.joined().propose_remove(1)
        assert await h.notify(h.fan_out(proposal)) == 201
        assert membership(h) == ("join", 0)
        assert await h.notify(removing(h)) == 201
        assert membership(h) == ("leave", 2)


async def test_who_was_removed_and_is_welcomed_again_is_in_the_room_again(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        parts = h.adding(h.alice)
        assert await h.notify(*parts) == 201
        assert await h.notify(removing(h, 1)) == 201
        # The Welcome from before, sent again, lets nobody in.
        assert await h.notify(*parts) == 201
        assert membership(h) == ("leave", 1)
        again = await with_package(h, ALICE, "LAPTOP")
        assert await h.notify(*h.adding(again), h.message()) == 201
        assert membership(h)[0] == "join"
        assert await h.notify(removing(h, 1)) == 201
        assert membership(h)[0] == "leave"


async def test_the_commit_before_a_welcome_is_no_change_of_the_tree_after_it(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        commit, welcome = h.adding(h.alice)
        assert await h.notify(welcome, commit) == 201
        # Had it been counted twice, Anna would be taken for the third leaf.
        anna = await with_package(h, "@anna:a.example", "PC")
        added, _ = h.adding(anna)
        assert await h.notify(added) == 201
        assert await h.notify(removing(h, 1)) == 201
        assert membership(h)[0] == "leave"


async def test_a_gap_in_the_commits_ends_the_tracking_and_no_membership(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        assert await h.notify(*h.adding(h.alice), h.commit()) == 201
        h.commit()
        with structlog.testing.capture_logs() as lines:
            assert await h.notify(removing(h, 1)) == 201
        assert "followed_group_lost" in [line["event"] for line in lines]
        assert membership(h) == ("join", 0)
        assert h.server.node.store.followed_group(ROOM) is None
