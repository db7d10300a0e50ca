"""A room's group comes back from what was written last and the log, whatever commits lie between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import openmls
import orjson
import pytest

from linearized.exceptions import StoreError
from linearized.mimi.participants import ROOM_METADATA, ParticipantListUpdate, UserRolePair
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import group_id, user_uri
from linearized.room import parts
from linearized.room.admission import ALGORITHM
from linearized.room.grouping import SAVE_EVERY
from linearized.room.submissions import Accepted, Submission
from linearized.server import groups
from linearized.server.groups import present_group
from linearized.server.loading import pending_proposals
from linearized.server.mls import OpenMls
from linearized.store.base import GroupRow, RoomAppend
from tests.room.party import commit_pending, leave, offer
from tests.room.support import ALICE, Member, handshake
from tests.server.providers.support import with_packages
from tests.server.support import Network, Server, commits, running_server

ANNA = "@anna:a.example"


@dataclass
class World:
    """A hub with a room of Alice's."""

    server: Server
    room_id: str
    alice: Member = field(default_factory=lambda: Member(ALICE))

    async def submit(self, submission: Submission, by: Member | None = None) -> Accepted:
        accepted = await self.server.node.rooms.submit(self.room_id, submission)
        (by or self.alice).accept()
        return accepted

    async def update(self, by: Member | None = None) -> Accepted:
        member = by or self.alice
        return await self.submit(handshake(member, member.joined().commit()), member)

    def written(self) -> GroupRow:
        row = self.server.node.store.group(self.room_id)
        assert row is not None
        return row

    def present(self) -> GroupRow:
        """The group by its log, which has to be the one that the hub has in memory, and that its members are
        in.
        """
        row = self.server.node.groups.row(self.room_id)
        assert row is not None
        group_info, tree = self.alice.joined().group_info()
        assert (row.epoch, row.ratchet_tree) == (self.alice.joined().epoch, tree)
        details, own = openmls.group_info_details(row.group_info), openmls.group_info_details(group_info)
        assert (details.epoch, details.app_data) == (own.epoch, own.app_data)
        loaded = openmls.PublicGroup.load(row.snapshot)
        assert (loaded.epoch, loaded.export_ratchet_tree()) == (row.epoch, tree)
        return row


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    async with running_server("a.example", directory, Network()) as server:
        room_id = await server.node.rooms.create(
            creator=ALICE,
            version="dev.linearized.1",
            creation_content={"encryption": {"algorithm": ALGORITHM}},
            initial=[],
        )
        found = World(server, room_id)
        await found.submit(found.alice.create(name=group_id(room_id)))
        yield found


async def test_a_group_is_written_out_when_somebody_comes_and_now_and_then(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert w.written().epoch == 1
        for _ in range(SAVE_EVERY - 1):
            assert (await w.update()).group is None
            assert w.written().epoch == 1
            w.present()
        accepted = await w.update()
        assert accepted.group is not None
        assert w.written() == w.present()
        assert w.written().epoch == 1 + SAVE_EVERY
        await w.update()
        assert w.written().epoch == 1 + SAVE_EVERY
        await w.submit(w.alice.add(Member(ANNA)))
        assert w.written() == w.present()
        row = w.server.node.store.room(w.room_id)
        assert row is not None
        assert row.epoch == w.alice.joined().epoch


@pytest.mark.parametrize("piece", [300, parts.MAX_PIECE])
async def test_a_hub_that_starts_again_goes_on_with_its_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(parts, "MAX_PIECE", piece)
    network = Network()
    async with running_server("a.example", tmp_path, network) as server:
        room_id = await server.node.rooms.create(
            creator=ALICE,
            version="dev.linearized.1",
            creation_content={"encryption": {"algorithm": ALGORITHM}},
            initial=[],
        )
        w = World(server, room_id)
        await w.submit(w.alice.create(name=group_id(room_id)))
        anna, tablet = Member(ANNA), Member(ALICE, "TABLET")
        added = await w.submit(w.alice.add(anna, tablet))
        for member in (anna, tablet):
            member.join(added)
        # What the log holds from then on: a leave, the commit that takes its proposals, a removal, a change
        # of the app data, and a proposal that waits.
        left = leave(anna)
        await server.node.rooms.submit(room_id, left)
        for message in (left.bundle.message, *left.bundle.more_proposals):
            w.alice.joined().process(message)
        await w.submit(commit_pending(w.alice))
        await w.submit(w.alice.remove(tablet, unlist=False))
        named = w.alice.joined().commit(
            app_data_updates={ROOM_METADATA: b"name"}, new_app_data={ROOM_METADATA: b"name"}
        )
        await w.submit(handshake(w.alice, named))
        update = w.alice.joined().propose_update()
        await server.node.rooms.submit(room_id, offer(w.alice, update))
        assert w.written().epoch == 2
        before = w.present()
    async with running_server("a.example", tmp_path, network) as server:
        w.server = server
        assert w.present() == before
        assert len(pending_proposals(server.node.store, room_id, before.commit_event_id)) == 1
        # The next is counted from when it was written, not from the start.
        for _ in range(SAVE_EVERY - 3 - 1):
            assert (await w.update()).group is None
        assert (await w.update()).group is not None
        assert w.written() == w.present()


async def test_a_group_that_was_moved_on_is_kept_for_who_asks_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        await w.update()
        made = w.present()
        assert w.server.node.groups.row(w.room_id) is made
        await w.update()
        assert w.present().epoch == made.epoch + 1
        monkeypatch.setattr(groups, "KEPT", 0)
        await w.update()
        first = w.present()
        assert w.server.node.groups.row(w.room_id) == first
        assert w.server.node.groups.row(w.room_id) is not first


async def test_a_commit_that_is_not_written_out_costs_its_entry_and_no_more(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        before, stored = commits(w.server), w.written()
        await w.update()
        assert commits(w.server) == before + 1
        assert w.written() == stored


@pytest.mark.parametrize(
    ("commit", "reason"), [("$unknown", "lacks its last commit"), (None, "does not lead to its group")]
)
async def test_a_log_that_does_not_lead_to_the_group_is_found_out(
    tmp_path: Path, commit: str | None, reason: str
) -> None:
    async with world(tmp_path) as w:
        await w.update()
        store = w.server.node.store
        (create,) = store.entries(w.room_id, after=0, limit=1)
        # As if it had been written before the first commit, which it has taken already.
        wrong = replace(w.written(), commit_event_id=commit or create.event_id)
        await store.append(RoomAppend(room_id=w.room_id, group=wrong))
        with pytest.raises(StoreError, match=reason):
            present_group(store, OpenMls(w.server.node.clock), w.room_id)


async def test_a_room_without_a_group_has_none(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert w.server.node.groups.row("!unknown:a.example") is None
        assert present_group(w.server.node.store, OpenMls(w.server.node.clock), "!unknown:a.example") is None


async def test_devices_added_together_share_one_welcome_and_each_can_join_by_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        names, store = ["PHONE", "LAPTOP", "WATCH"], w.server.node.store
        clients = [await with_packages(w.server, ANNA, name) for name in names]
        packages = []
        for name in names:
            claimed = await store.claim_key_package(
                user_id=ANNA, device_id=name, ciphersuites=[1], now_ms=w.server.node.clock()
            )
            assert claimed is not None
            packages.append(claimed.key_package)
        listed = ParticipantListUpdate(added=(UserRolePair(user=user_uri(ANNA), role_index=1),))
        await w.submit(w.alice.change(listed, add=packages))
        rows = [store.to_device(ANNA, name, after=0, limit=10) for name in names]
        assert [len(found) for found in rows] == [1, 1, 1]
        assert len({row.content for (row,) in rows}) == 1
        content = orjson.loads(rows[0][0].content)
        for client in clients:
            group = client.join_welcome(
                welcome=decode_base64(content["ciphertext"]),
                ratchet_tree=decode_base64(content["ratchet_tree"]),
            )
            assert group.epoch == w.alice.joined().epoch
