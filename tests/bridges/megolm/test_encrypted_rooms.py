"""Encrypted rooms as people on both sides see them: the fake homeserver, a client that encrypts, the
bridge.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.matrix.ciphers import FileOpener, FileSealer, PartOpener, whole
from bridges.matrix.database import Database
from bridges.matrix.media import file_of
from bridges.matrix.megolm import extensions, mailbox, requests
from linearized.client import DecryptedMessage
from linearized.mimi.content import ExternalPart, MultiPart, SinglePart, attachment
from tests.bridges.megolm.support import ENCRYPTION, client_of, hears, says
from tests.bridges.megolm.talk import Talk, talking
from tests.bridges.support import ALICE, BOB, BOT, CAROL, GHOST_BOB
from tests.bridges.test_fallbacks import STABLE
from tests.bridges.test_live import body_of, by, heard
from tests.bridges.test_live import talking as talking_in_the_clear
from tests.client.support import message


async def test_messages_cross_an_encrypted_room_both_ways_and_after_a_restart(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("from the phone")
        assert await talk.bob_hears() == ["from the phone"]
        await talk.bob_says("from elsewhere")
        assert await talk.alice_hears() == ["from elsewhere"]
        sessions = set(talk.alice.keys)
        await talk.world.restart()
        await talk.alice_says("after the restart")
        assert await talk.bob_hears() == ["after the restart"]
        await talk.bob_says("here, too")
        assert await talk.alice_hears() == ["from elsewhere", "here, too"]
        # The same session goes on: nobody had to be given another key.
        assert set(talk.alice.keys) == sessions


async def test_nothing_is_sent_in_the_clear_not_even_answers_of_the_bot(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("!mimi help")
        await talk.bob_says("from elsewhere")
        sent = [e for e in talk.room.timeline if "_lin_" in e["sender"] and "state_key" not in e]
        assert {event["type"] for event in sent} == {"m.room.encrypted"}
        help_text, said = await talk.alice_hears()
        assert (help_text.splitlines()[1], said) == ("!mimi help: this text", "from elsewhere")


async def test_a_picture_in_an_encrypted_room_is_encrypted_on_both_homeserver_and_provider(
    tmp_path: Path,
) -> None:
    picture = b"\x89PNG not really"
    async with talking(tmp_path) as talk:
        server = talk.world.homeserver
        sealer = FileSealer(secrets.token_bytes)
        sealed = whole(sealer, picture)
        file = sealer.file
        file["url"] = server.upload(sealed, "application/octet-stream")
        small = {"thumbnail_file": file, "thumbnail_info": {"mimetype": "image/png"}}
        info = {"mimetype": "image/png", "w": 3, "h": 4, **small}
        await talk.alice_says("boat.png", msgtype="m.image", file=file, info=info)
        broken = {**file, "hashes": {"sha256": "A" * 43}}
        await talk.alice_says("broken.png", msgtype="m.image", file=broken, info=info)
        got, refused = await heard(talk.bob, 2)
        both = got.content.part
        assert isinstance(both, MultiPart)
        part, thumbnail = both.parts
        assert isinstance(part, ExternalPart)
        assert isinstance(thumbnail, ExternalPart)
        data = await talk.world.bridge.puppets.bot.api.download_media(*file_of(part.url))
        assert (whole(PartOpener(part), data), part.content_type) == (picture, "image/png")
        assert body_of(refused) == "[broken.png: the file could not be fetched]"
        inside = SinglePart(content_type="image/png", content=picture)
        held = replace(attachment(part, salt=b"q" * 16), part=inside)
        shared = replace(attachment(part, salt=b"p" * 16), part=both)
        for content in (shared, attachment(part, salt=b"r" * 16), held):
            await talk.bob.send(talk.world.room_id(), content)
        await talk.world.settle()
        await talk.alice_hears()
        sent = [event for event in talk.room.timeline if event["sender"] == GHOST_BOB]
        opened = [talk.alice.decrypt(e)["content"] for e in sent if e["type"] == "m.room.encrypted"]
        assert len(opened) == 3
        for content in opened:
            assert (content["msgtype"], "url" in content) == ("m.image", False)
            stored = server.media[content["file"]["url"].rpartition("/")[2]][0]
            assert stored != picture
            assert whole(FileOpener(content["file"]), stored) == picture
        assert "thumbnail_url" not in opened[0]["info"]
        preview = opened[0]["info"]["thumbnail_file"]
        hidden = server.media[preview["url"].rpartition("/")[2]][0]
        assert hidden != picture
        assert whole(FileOpener(preview), hidden) == picture
        # What was uploaded once is not uploaded again.
        assert opened[0]["file"] == opened[1]["file"] != opened[2]["file"]


async def test_a_message_whose_key_is_late_is_told_of_and_then_replaced(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        world, alice, room_id = talk.world, talk.alice, talk.room.room_id
        key = alice.room_key(room_id)
        content = alice.encrypt(room_id, "m.room.message", {"msgtype": "m.text", "body": "late"})
        event = world.homeserver.emit(talk.room, ALICE, "m.room.encrypted", content)
        await world.settle()
        # What she says after it waits behind it.
        alice.outbound.clear()
        await talk.alice_says("after it")
        await talk.bob.catch_up()
        assert not [item for item in talk.bob.device.state.inbox if isinstance(item, DecryptedMessage)]
        # Alice's phone says that the key will not come, so there is nothing to wait for.
        (device,) = await alice.devices_of([BOT])
        notice = {"room_id": room_id, "session_id": key["session_id"], "code": "m.unverified"}
        await alice.send_to_device(device, "m.room_key.withheld", notice)
        await world.settle()
        told, after = await heard(talk.bob, 2)
        assert body_of(told) == "[a message encrypted in Matrix, which the bridge cannot read]"
        assert body_of(after) == "after it"
        # And then it does, as when she has verified the bot.
        await alice.send_to_device(device, "m.room.encrypted", await alice.olm(device, "m.room_key", key))
        await world.settle()
        (replaced,) = await heard(talk.bob)
        assert (body_of(replaced), replaced.content.replaces) == ("late", told.message_id)
        # An answer to the event is one to the message that was told of first.
        relation = {"m.in_reply_to": {"event_id": event["event_id"]}}
        await talk.alice_says("an answer", **{"m.relates_to": relation})
        (answer,) = await heard(talk.bob)
        assert answer.content.in_reply_to == told.message_id


async def test_a_vote_names_the_answers_of_a_poll_that_was_encrypted(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:

        async def say(kind: str, content: dict[str, Any]) -> str:
            sealed = talk.alice.encrypt(talk.room.room_id, kind, content)
            # What relates events stands outside, for the homeserver to read.
            sealed |= {name: value for name, value in content.items() if name == "m.relates_to"}
            event = talk.world.homeserver.emit(talk.room, ALICE, "m.room.encrypted", sealed)
            await talk.world.settle()
            return str(event["event_id"])

        await talk.alice_says("a poll")
        poll = await say("m.poll.start", STABLE)
        relation = {"rel_type": "m.reference", "event_id": poll}
        await say("m.poll.response", {"m.relates_to": relation, "m.selections": ["a"]})
        stranger = {"rel_type": "m.reference", "event_id": "$unknown"}
        await say("m.poll.response", {"m.relates_to": stranger, "m.selections": ["a"]})
        unread = talk.world.homeserver.emit(
            talk.room, ALICE, "m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2"}
        )
        relation = {"rel_type": "m.reference", "event_id": unread["event_id"]}
        await say("m.poll.response", {"m.relates_to": relation, "m.selections": ["a"]})
        said = [body_of(item) for item in await heard(talk.bob, 5)]
        assert said == ["a poll", "Poll: Tea?\n1. Yes\n2. No", "Voted: Yes", "Voted", "Voted"]


async def test_a_forged_or_replayed_message_is_set_aside_and_nothing_of_it_crosses(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("once")
        assert await talk.bob_hears() == ["once"]
        said = [e for e in talk.room.timeline if e["sender"] == ALICE and e["type"] == "m.room.encrypted"][-1]
        replayed = talk.world.homeserver.emit(talk.room, ALICE, "m.room.encrypted", said["content"])
        await talk.world.settle()
        await talk.alice_says("twice")
        assert await talk.bob_hears() == ["twice"]
        link = talk.world.bridge.links.of_matrix(talk.room.room_id)
        assert link is not None
        aside = talk.world.bridge.aside.last(link.matrix_room_id, 5)
        assert aside == [(replayed["event_id"], "Replayed: the message stood in another event before")]


async def test_a_new_session_is_shared_when_a_reader_left(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        server = talk.world.homeserver
        carol = client_of(server, CAROL)
        await carol.publish()
        server.member(talk.room, CAROL, "join")
        await talk.world.settle()
        await talk.bob_says("for both")
        assert (await talk.alice_hears())[-1] == (await hears(talk.world, talk.room, carol))[-1] == "for both"
        server.member(talk.room, CAROL, "leave")
        await talk.world.settle()
        await talk.bob_says("for Alice")
        assert (await talk.alice_hears())[-1] == "for Alice"
        with pytest.raises(KeyError):
            await hears(talk.world, talk.room, carol)


# --- rooms that stay closed ---


def told(talk: Talk) -> list[str]:
    """What the bot said in the clear."""
    texts = [e for e in talk.room.timeline if e["sender"] == BOT and e["type"] == "m.room.message"]
    return [event["content"]["body"] for event in texts]


async def nothing_crosses(talk: Talk, reason: str) -> None:
    for _ in range(2):
        await talk.alice_says("a secret")
        assert await talk.bob_hears() == ["[a message encrypted in Matrix, which the bridge cannot read]"]
        await talk.bob_says("another")
    assert [event for event in talk.room.timeline if event["sender"] == GHOST_BOB][-1]["type"] == (
        "m.room.member"
    )
    (notice,) = told(talk)
    assert reason in notice
    assert "secret" not in notice


async def test_the_operator_keeps_the_bridge_out_of_encrypted_rooms(tmp_path: Path) -> None:
    async with talking(tmp_path, encrypted_rooms="refuse") as talk:
        await nothing_crosses(talk, "the bridge's operator does not allow it")
        assert [user for user, _ in talk.world.homeserver.keys.devices] == [ALICE]


async def test_a_homeserver_that_passes_no_keys_on_keeps_encrypted_rooms_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "PROBE_DEADLINE", 0.0)
    async with talking(tmp_path, to_device=False) as talk:
        await nothing_crosses(talk, "MSC2409")


async def test_an_unknown_algorithm_keeps_a_room_closed(tmp_path: Path) -> None:
    async with talking(tmp_path, algorithm="m.megolm.v9") as talk:
        await nothing_crosses(talk, "in a way I do not know")


async def test_people_of_a_room_keep_the_bridge_out_and_let_it_in_again(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("!mimi encryption off")
        (answer,) = await talk.alice_hears()
        assert "encryption on" in answer
        await nothing_crosses(talk, "somebody who may decide so for this room did")
        direct = talk.world.homeserver.create("!direct:matrix.example", ALICE)
        talk.world.homeserver.member(direct, BOT, "join")
        talk.world.homeserver.say(direct, ALICE, f"encryption on {talk.room.room_id}")
        await talk.world.settle()
        await talk.alice_says("open again")
        assert await talk.bob_hears() == ["open again"]
        talk.world.homeserver.say(direct, BOB, f"encryption off {talk.room.room_id}")
        talk.world.homeserver.say(direct, ALICE, "encryption maybe")
        await talk.world.settle()
        await talk.alice_says("still open")
        assert await talk.bob_hears() == ["still open"]


async def test_a_key_that_the_homeserver_forgot_to_push_is_found_in_a_ghosts_inbox(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("so that a ghost listens")
        talk.world.homeserver.keys.pushes_to_device = False
        talk.alice.outbound.clear()
        await talk.alice_says("not pushed")
        assert await talk.bob_hears(2) == ["so that a ghost listens", "not pushed"]


async def test_a_key_that_only_the_bot_was_sent_and_nobody_has_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge was down: the homeserver forgets the key, and no ghost was given it."""
    monkeypatch.setattr(requests, "ASK_AFTER_MS", 0)
    async with talking(tmp_path) as talk:
        keys = talk.world.homeserver.keys
        keys.pushes_to_device = False
        await talk.alice.share(talk.room.room_id, [BOT])
        keys.pushes_to_device = True
        content = talk.alice.encrypt(
            talk.room.room_id, "m.room.message", {"msgtype": "m.text", "body": "lost"}
        )
        talk.world.homeserver.emit(talk.room, ALICE, "m.room.encrypted", content)
        await talk.world.settle()
        await talk.alice_hears()
        (device,) = await talk.alice.devices_of([BOT])
        await talk.alice.answer_request(device, talk.alice.requests[-1])
        await talk.world.settle()
        assert await talk.bob_hears() == ["lost"]


async def test_unbridging_leaves_nothing_of_a_room_but_that_it_is_encrypted(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        world, room = talk.world, talk.room
        await talk.alice_says("hello")
        await talk.bob_says("hello")
        content = {**talk.alice.encrypt(room.room_id, "m.x", {}), "session_id": "unknown"}
        world.homeserver.emit(room, ALICE, "m.room.encrypted", content)
        await world.settle()
        database = world.bridge.queue._database
        assert {"megolm_inbound", "megolm_outbound", "megolm_seen", "undecrypted", "incoming"} < holding(
            database, room.room_id
        )
        link = world.bridge.links.of_matrix(room.room_id)
        assert link is not None
        await world.bridge.unbridging.run(link)
        assert holding(database, room.room_id) == {"encrypted_rooms"}
        # Nothing is said in the clear when it is bridged again. Clients begin a new session when somebody
        # left.
        talk.alice.outbound.clear()
        world.homeserver.member(room, BOT, "invite", sender=ALICE)
        await world.settle()
        await talk.alice_says("!mimi help")
        assert {event["type"] for event in room.timeline if event["sender"] == BOT} <= {
            "m.room.encrypted",
            "m.room.member",
        }
        assert "this text" in (await talk.alice_hears())[-1]


def holding(database: Database, room_id: str) -> set[str]:
    """The tables that have something of a Matrix room."""
    tables = [row["name"] for row in database.all("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = set()
    for table in tables:
        for row in database.all(f"SELECT * FROM {table}"):  # noqa: S608
            if any(isinstance(value, str) and room_id in value for value in tuple(row)):
                found.add(table)
    return found


async def test_an_encrypted_event_of_a_room_the_bot_is_not_in_is_nothing(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        other = talk.world.homeserver.create("!other:matrix.example", ALICE)
        event = talk.world.homeserver.emit(other, ALICE, "m.room.encrypted", {"algorithm": "m.megolm.v1"})
        await talk.world.settle()
        await talk.alice_says("after it")
        assert await talk.bob_hears() == ["after it"]
        assert talk.world.bridge.queue.knows(event["event_id"])


async def test_inboxes_are_left_alone_while_too_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("so that a ghost listens")
        talk.alice.outbound.clear()
        talk.world.homeserver.keys.pushes_to_device = False
        await talk.alice.share(talk.room.room_id, [BOT, GHOST_BOB])
        monkeypatch.setattr(mailbox, "MAX_WAITING", 0)
        await talk.world.bridge.encryption.read_inboxes()
        assert talk.world.bridge.queue.next() is None


async def test_a_room_that_is_encrypted_once_it_is_bridged_goes_on_so(tmp_path: Path) -> None:
    async with talking_in_the_clear(tmp_path) as (world, room, bob):
        alice = client_of(world.homeserver, ALICE)
        await alice.publish()
        world.homeserver.say(room, ALICE, "in the clear")
        world.homeserver.emit(room, ALICE, "m.room.encryption", ENCRYPTION, state_key="")
        await world.settle()
        await says(world, room, alice, "encrypted")
        await world.settle()
        assert [body_of(item) for item in await heard(bob, 2)] == ["in the clear", "encrypted"]
        await bob.send(world.room_id(), message("from elsewhere"))
        await world.settle()
        assert await hears(world, room, alice) == ["from elsewhere"]
        assert not by(room, GHOST_BOB)
