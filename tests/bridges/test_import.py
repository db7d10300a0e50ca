from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridges.matrix import importer
from bridges.matrix.content import NotBridged
from bridges.matrix.importer import interoperable
from bridges.matrix.media import file_of
from tests.bridges.fake_homeserver import FakeHomeserver, MatrixRoom
from tests.bridges.support import ALICE, BOB, BOT, CAROL, MATRIX_ROOM, open_world


def history(homeserver: FakeHomeserver, messages: int) -> MatrixRoom:
    room = homeserver.create(MATRIX_ROOM, ALICE)
    for user in (BOB, CAROL):
        homeserver.member(room, user, "join", push=False)
    homeserver.emit(room, ALICE, "m.room.topic", {"topic": "the old days"}, state_key="", push=False)
    for number in range(messages):
        homeserver.say(room, (ALICE, BOB, CAROL)[number % 3], f"old {number}", push=False)
    return room


async def test_a_room_is_imported_in_order_with_its_senders_and_times(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 120)
        room_id = await world.import_room(room)
        page = await world.bridge.puppets.bot.api.log(room_id, after=0, limit=500)
        wanted = [
            (e["sender"], e["origin_server_ts"], e["content"])
            for e in room.timeline
            if e["type"] == "m.room.message"
        ]
        got = [
            (pdu["sender"], pdu["origin_server_ts"], pdu["content"])
            for pdu in page.pdus
            if pdu["type"] == "m.room.message"
        ]
        assert got == wanted
        sources = [pdu["provenance"] for pdu in page.pdus if pdu["type"] == "m.room.message"]
        assert sources[0]["event_id"] == next(
            e["event_id"] for e in room.timeline if e["type"] == "m.room.message"
        )
        create = page.pdus[0]
        assert create["content"]["dev.linearized.origin"]["room_id"] == MATRIX_ROOM


async def test_everybody_of_the_homeserver_is_in_the_group_afterwards(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room_id = await world.import_room(history(world.homeserver, 3))
        members = {o.client_uri for o in world.bridge.puppets.bot.device.members(room_id).values()}
        assert members == {
            "mimi://a.example/d/_bridge/BRIDGE",
            *(f"mimi://matrix.example/d/{name}/BRIDGE" for name in ("alice", "bob", "carol")),
        }
        for user in (ALICE, BOB, CAROL):
            assert not world.bridge.puppets.session(user).device.in_group(room_id)
            session = await world.bridge.puppets.follow(user)  # as when it first speaks
            assert session.device.in_group(room_id)


async def test_nobodys_power_changes_by_the_import(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 0)
        levels = {"users": {ALICE: 100, BOB: "50"}, "users_default": 0}
        world.homeserver.emit(room, ALICE, "m.room.power_levels", levels, state_key="", push=False)
        room_id = await world.import_room(room)
        state = await world.bridge.puppets.bot.api.state(room_id)
        (content,) = [e["content"] for e in state if e["type"] == "m.room.power_levels"]
        assert content["users"] == {ALICE: 100, BOB: 50, "@_bridge:a.example": 100}


async def test_files_are_copied_and_the_old_url_is_kept(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 0)
        url = world.homeserver.upload(b"a picture", "image/png")
        for _ in range(2):
            content = {"msgtype": "m.image", "body": "p.png", "url": url, "info": {"mimetype": "image/png"}}
            world.homeserver.emit(room, ALICE, "m.room.message", content, push=False)
        room_id = await world.import_room(room)
        api = world.bridge.puppets.bot.api
        page = await api.log(room_id, after=0, limit=100)
        first, second = [p["content"] for p in page.pdus if p["type"] == "m.room.message"]
        assert first["dev.linearized.original_url"] == url
        assert first["url"] == second["url"] != url
        assert await api.download_media(*file_of(first["url"])) == b"a picture"


async def test_stickers_and_thumbnails_are_copied_and_what_is_too_large_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(importer, "MAX_THUMBNAIL_BYTES", 10)
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 0)
        upload, emit = world.homeserver.upload, world.homeserver.emit
        wave, small, large = (upload(data, "image/png") for data in (b"wave", b"small", b"x" * 101))
        kind = {"mimetype": "image/png"}
        for url, preview in ((wave, small), (large, large)):
            info = {**kind, "thumbnail_url": preview, "thumbnail_info": kind}
            emit(room, ALICE, "m.sticker", {"body": "wave", "url": url, "info": info}, push=False)
        room_id = await world.import_room(room)
        api = world.bridge.puppets.bot.api
        page = await api.log(room_id, after=0, limit=100)
        first, second = [p["content"] for p in page.pdus if p["type"] == "m.sticker"]
        assert await api.download_media(*file_of(first["url"])) == b"wave"
        assert await api.download_media(*file_of(first["info"]["thumbnail_url"])) == b"small"
        assert (second["url"], second["info"]["thumbnail_url"]) == (large, large)


async def test_what_the_log_cannot_hold_is_left_out_and_counted(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        emit = world.homeserver.emit
        emit(room, ALICE, "m.room.encryption", {"algorithm": "m.megolm.v1"}, state_key="", push=False)
        emit(room, ALICE, "m.room.encrypted", {"algorithm": "m.megolm.v1"}, push=False)
        emit(room, ALICE, "m.mls.commit", {"message": "x"}, push=False)
        emit(room, "@eve:elsewhere.example", "m.room.message", {"body": "x"}, push=False)
        emit(room, ALICE, "m.room.message", {"body": "x" * 70_000}, push=False)
        emit(room, ALICE, "m.room.message", {"body": "1.5", "n": 1.5, "m": 2.0, "big": 2**60}, push=False)
        world.homeserver.member(room, BOT, "invite", sender=ALICE, push=False)
        steps: list[tuple[str, int, int]] = []
        report = await world.bridge.import_room(MATRIX_ROOM, lambda *step: steps.append(step))
        # The creation, the encryption and the commit; and the one that is too large.
        assert (report.left_out, report.failed, report.members) == (3, 1, 3)
        page = await world.bridge.puppets.bot.api.log(report.room_id, after=0, limit=100)
        messages = [pdu for pdu in page.pdus if pdu["type"] == "m.room.message"]
        assert messages[-3]["content"] == {
            "msgtype": "m.notice",
            "body": "[a message encrypted in Matrix, which the bridge cannot read]",
        }
        assert messages[-2]["sender"] == "@eve:elsewhere.example"
        last = messages[-1]["content"]
        assert last == {"body": "1.5", "n": "1.5", "m": 2, "big": str(2**60)}
        assert steps[0][0] == "reading"
        assert steps[-1] == ("adding", 3, 3)


async def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 5)
        room_id = await world.import_room(room)
        api = world.bridge.puppets.bot.api
        before = await api.log(room_id, after=0, limit=200)
        report = await world.bridge.import_room(MATRIX_ROOM)
        after = await api.log(room_id, after=0, limit=200)
        assert after == before
        assert report.room_id == room_id


def test_values_json_can_hold_and_the_log_cannot_are_made_harmless() -> None:
    assert interoperable({"a": [1.0, 1.5, True, None, -(2**53)]}) == {
        "a": [1, "1.5", True, None, str(-(2**53))]
    }
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    with pytest.raises(NotBridged):
        interoperable(deep)
