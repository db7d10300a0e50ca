from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from bridges.matrix import inbound, outbound
from bridges.matrix.audit import Audits
from bridges.matrix.ciphers import PartOpener, whole
from bridges.matrix.content import NotBridged
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.media import file_of
from bridges.matrix.outbound import relayed
from linearized.client import DecryptedMessage, Session
from linearized.mimi.content import (
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    SinglePart,
    attachment,
    delete,
    edit,
    reaction,
    reply,
)
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import (
    ALICE,
    AS_TOKEN,
    BOB,
    BOT,
    CAROL,
    GHOST_BOB,
    MATRIX_ROOM,
    World,
    bob_of_b,
    open_world,
    push_events,
)
from tests.bridges.test_fallbacks import STABLE
from tests.bridges.test_import import history
from tests.client.support import drain, message


@asynccontextmanager
async def talking(tmp_path: Path) -> AsyncIterator[tuple[World, MatrixRoom, Session]]:
    """A bridged room in which alice invited bob of b.example, who has joined."""
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 3)
        await world.import_room(room)
        bob = await bob_of_b(world)
        world.homeserver.member(room, GHOST_BOB, "invite", sender=ALICE)
        assert await world.bridge.ghosts.answer_query(GHOST_BOB)
        await world.settle()
        await bob.step(5000)
        await drain(bob)
        assert bob.device.in_group(world.room_id())
        yield world, room, bob


async def heard(bob: Session, count: int = 1) -> list[DecryptedMessage]:
    found: list[DecryptedMessage] = []
    with trio.fail_after(30):
        while len(found) < count:
            await bob.step(1000)
            found += [item for item in await drain(bob) if isinstance(item, DecryptedMessage)]
    return found


def body_of(item: DecryptedMessage) -> str:
    part = item.content.part
    assert isinstance(part, SinglePart)
    return part.text


def by(room: MatrixRoom, sender: str, kind: str = "m.room.message") -> list[dict[str, Any]]:
    return [e for e in room.timeline if e["sender"] == sender and e["type"] == kind]


async def test_inviting_a_ghost_adds_the_person_and_the_ghost_joins(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        assert room.members[GHOST_BOB] == "join"
        assert world.homeserver.names[GHOST_BOB] == "bob (b.example)"


async def test_a_matrix_message_reaches_the_other_provider_from_its_own_sender(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, CAROL, "hello from matrix")
        await world.settle()
        (got,) = await heard(bob)
        assert got.sender_uri == "mimi://matrix.example/u/carol"
        assert got.client_uri == "mimi://matrix.example/d/carol/BRIDGE"
        # Everybody sees which clients are a bridge's.
        owners, bridged = (getattr(bob.device, what)(world.room_id()) for what in ("members", "bridged"))
        assert {owners[leaf].user_id for leaf in bridged} == {"@_bridge:a.example", ALICE, BOB, CAROL}
        assert {one.protocol for one in bridged.values()} == {"matrix"}
        assert "@bob:b.example" in {owner.user_id for owner in owners.values()}
        assert body_of(got) == "hello from matrix"
        assert got.timestamp == room.timeline[-1]["origin_server_ts"]


async def test_a_message_from_the_other_provider_appears_once_as_its_ghost(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        said = message("hello from mimi")
        await bob.send(world.room_id(), said)
        await world.settle()
        (event,) = by(room, GHOST_BOB)
        assert event["content"] == {"msgtype": "m.text", "body": "hello from mimi"}
        # "message IDs which duplicate another message ID already encountered": discarded.
        await bob.send(world.room_id(), said)
        await world.settle()
        assert len(by(room, GHOST_BOB)) == 1


async def test_what_matrix_users_send_does_not_come_back_to_them(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        before = len(room.timeline)
        world.homeserver.say(room, ALICE, "one")
        world.homeserver.say(room, BOB, "two")
        await world.settle()
        assert [e["content"]["body"] for e in room.timeline[before:]] == ["one", "two"]


async def test_replies_reactions_edits_and_deletions_refer_to_the_same_message_on_both_sides(
    tmp_path: Path,
) -> None:
    async with talking(tmp_path) as (world, room, bob):
        first = world.homeserver.say(room, ALICE, "a question")
        await world.settle()
        (question,) = await heard(bob)
        answer = message("an answer")
        await bob.send(world.room_id(), reply(question.message_id, "an answer", salt=answer.salt))
        await bob.send(world.room_id(), reaction(question.message_id, "👍", salt=b"r" * 16))
        await world.settle()
        (event,) = by(room, GHOST_BOB)
        assert event["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": first}}
        (annotation,) = by(room, GHOST_BOB, "m.reaction")
        assert annotation["content"]["m.relates_to"]["event_id"] == first
        own = bob.message_id(world.room_id(), reply(question.message_id, "an answer", salt=answer.salt))
        await bob.send(world.room_id(), edit(own, "a better answer", salt=b"e" * 16))
        await bob.send(world.room_id(), delete(own, salt=b"d" * 16))
        await world.settle()
        changed = by(room, GHOST_BOB)[-1]["content"]
        assert changed["m.relates_to"] == {"rel_type": "m.replace", "event_id": event["event_id"]}
        assert changed["m.new_content"]["body"] == "a better answer"
        (redaction,) = by(room, GHOST_BOB, "m.room.redaction")
        assert redaction["redacts"] == event["event_id"]


async def test_matrix_edits_reactions_and_redactions_name_the_original(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        first = world.homeserver.say(room, ALICE, "tpyo")
        await world.settle()
        (original,) = await heard(bob)
        new = {"msgtype": "m.text", "body": "typo"}
        world.homeserver.say(
            room,
            ALICE,
            "* typo",
            extra={"m.new_content": new, "m.relates_to": {"rel_type": "m.replace", "event_id": first}},
        )
        relation = {"rel_type": "m.annotation", "event_id": first, "key": "🎉"}
        world.homeserver.emit(room, CAROL, "m.reaction", {"m.relates_to": relation})
        world.homeserver.emit(room, ALICE, "m.room.redaction", {"redacts": first}, redacts=first)
        await world.settle()
        edited, reacted, deleted = await heard(bob, 3)
        assert edited.content.replaces == original.message_id
        assert reacted.content.in_reply_to == original.message_id
        assert reacted.content.part.disposition == Disposition.REACTION
        assert deleted.content.replaces == original.message_id


async def test_a_picture_crosses_encrypted_and_comes_out_the_same(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        picture = b"\x89PNG not really"
        url = world.homeserver.upload(picture, "image/png")
        info = {"mimetype": "image/png", "w": 3, "h": 4, "size": len(picture)}
        content = {"msgtype": "m.image", "body": "boat.png", "url": url, "info": info}
        world.homeserver.emit(room, ALICE, "m.room.message", content)
        await world.settle()
        (got,) = await heard(bob)
        part = got.content.part
        assert isinstance(part, ExternalPart)
        sealed = await world.bridge.puppets.bot.api.download_media(*file_of(part.url))
        assert picture not in sealed
        assert whole(PartOpener(part), sealed) == picture
        assert part.content_type == "image/png"
        # And back: bob shares the same file.
        await bob.send(world.room_id(), attachment(part, salt=b"p" * 16))
        await world.settle()
        (event,) = by(room, GHOST_BOB)
        assert event["content"]["msgtype"] == "m.image"
        assert world.homeserver.media[event["content"]["url"].rpartition("/")[2]][0] == picture


async def test_a_thumbnail_crosses_both_ways_and_one_that_is_too_large_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (inbound, outbound):
        monkeypatch.setattr(module, "MAX_THUMBNAIL_BYTES", 100)
    async with talking(tmp_path) as (world, room, bob):
        server = world.homeserver
        clip, small = server.upload(b"a film", "video/mp4"), server.upload(b"a still", "image/png")
        large = server.upload(b"x" * 101, "image/png")
        for url in (small, large, f"mxc://{DOMAIN}/gone"):
            sizes = {"thumbnail_url": url, "thumbnail_info": {"mimetype": "image/png", "w": 8, "h": 6}}
            content = {"msgtype": "m.video", "body": "clip.mp4", "url": clip, "info": sizes}
            server.emit(room, ALICE, "m.room.message", content)
        await world.settle()
        got, *without = await heard(bob, 3)
        assert [type(item.content.part) for item in without] == [ExternalPart, ExternalPart]
        both = got.content.part
        assert isinstance(both, MultiPart)
        film, still = both.parts
        assert isinstance(film, ExternalPart)
        assert isinstance(still, ExternalPart)
        api = world.bridge.puppets.bot.api
        sealed = [await api.download_media(*file_of(part.url)) for part in (film, still)]
        assert whole(PartOpener(film), sealed[0]) == b"a film"
        assert whole(PartOpener(still), sealed[1]) == b"a still"
        # And back: bob shares them again; and once with a preview that is too large.
        again = replace(got.content, salt=b"p" * 16)
        held = SinglePart(content_type="image/png", disposition=Disposition.PREVIEW, content=b"y" * 101)
        await bob.send(world.room_id(), again)
        await bob.send(world.room_id(), replace(again, part=replace(both, parts=(film, held))))
        await world.settle()
        shown, bare = (event["content"]["info"] for event in by(room, GHOST_BOB))
        assert server.media[shown["thumbnail_url"].rpartition("/")[2]] == (b"a still", "image/png")
        assert shown["thumbnail_info"] == {"mimetype": "image/png", "w": 8, "h": 6, "size": 7}
        assert "thumbnail_url" not in bare
        # A file that nobody carries is named.
        monkeypatch.setattr(outbound, "MAX_FILE_BYTES", 5)
        server.emit(room, ALICE, "m.room.message", {"msgtype": "m.file", "body": "film.mp4", "url": clip})
        await world.settle()
        (named,) = await heard(bob)
        assert body_of(named) == "[film.mp4: the file could not be fetched]"


async def test_stickers_votes_and_missing_files_cross_as_what_they_can_be(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        url = world.homeserver.upload(b"webp", "image/webp")
        sticker = {"body": "wave", "url": url, "info": {"mimetype": "image/webp\r\nX-Evil: 1"}}
        world.homeserver.emit(room, ALICE, "m.sticker", sticker)
        poll = world.homeserver.emit(room, ALICE, "m.poll.start", STABLE)["event_id"]
        for target in (poll, "$gone"):
            vote = {"m.relates_to": {"event_id": target}, "m.selections": ["a"]}
            world.homeserver.emit(room, CAROL, "m.poll.response", vote)
        gone = {"msgtype": "m.file", "body": "report.pdf", "url": f"mxc://{DOMAIN}/gone"}
        world.homeserver.emit(room, CAROL, "m.room.message", gone)
        await world.settle()
        got, asked, voted, unknown, missing = await heard(bob, 5)
        assert isinstance(got.content.part, ExternalPart)
        assert body_of(asked).startswith("Poll: Tea?")
        assert (body_of(voted), voted.content.in_reply_to) == ("Voted: Yes", asked.message_id)
        assert body_of(unknown) == "Voted"
        assert body_of(missing) == "[report.pdf: the file could not be fetched]"
        # And back: bob shares the sticker, whose media type is not to be believed, and a picture inside a
        # message.
        extensions: dict[int | str, Any] = {"dev.linearized.msgtype": "m.sticker"}
        await bob.send(world.room_id(), attachment(got.content.part, salt=b"p" * 16, extensions=extensions))
        held = SinglePart(content_type="image/png", content=b"\x89PNG")
        await bob.send(world.room_id(), MimiContent(salt=b"q" * 16, part=held))
        await world.settle()
        files = by(room, GHOST_BOB)
        assert [event["content"]["msgtype"] for event in files] == ["m.file", "m.image"]
        stored = [world.homeserver.media[event["content"]["url"].rpartition("/")[2]] for event in files]
        assert stored == [(b"webp", "application/octet-stream"), (b"\x89PNG", "image/png")]


async def test_people_who_come_and_go_in_the_matrix_room_come_and_go_in_the_group(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.member(room, CAROL, "leave")
        await world.settle()
        members = world.bridge.puppets.bot.device.members(world.room_id()).values()
        assert CAROL not in {owner.user_id for owner in members}
        world.homeserver.member(room, CAROL, "join")
        world.homeserver.say(room, CAROL, "back again")
        await world.settle()
        (got,) = await heard(bob)
        assert got.sender_uri == "mimi://matrix.example/u/carol"


async def test_a_ghost_thrown_out_in_matrix_is_out_of_the_group(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.member(room, GHOST_BOB, "leave", sender=ALICE)
        await world.settle()
        with trio.fail_after(30):
            while bob.device.in_group(world.room_id()):
                await bob.step(1000)
                await drain(bob)
        assert room.members[GHOST_BOB] == "leave"


async def test_somebody_who_leaves_at_the_provider_leaves_in_matrix_and_in_the_group(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        dan = await world.club.device(world.hub, "dan")
        ghost = f"@_lin_a.example_dan:{DOMAIN}"
        world.homeserver.member(room, ghost, "invite", sender=ALICE)
        assert await world.bridge.ghosts.answer_query(ghost)
        await world.settle()
        await drain(dan)
        await dan.send(world.room_id(), message("goodbye"))
        await dan.api.leave(world.room_id())
        await world.settle()
        assert by(room, ghost)[-1]["content"]["body"] == "goodbye"
        assert room.members[ghost] == "leave"
        members = world.bridge.puppets.bot.device.members(world.room_id()).values()
        assert "@dan:a.example" not in {owner.user_id for owner in members}


async def test_the_topic_crosses_and_does_not_bounce(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": "new"}, state_key="")
        await world.settle()
        state = await world.bridge.puppets.bot.api.state(world.room_id())
        assert [e["content"] for e in state if e["type"] == "m.room.topic"] == [{"topic": "new"}]
        assert len([e for e in room.timeline if e["type"] == "m.room.topic"]) == 2
        assert not by(room, BOT, "m.room.topic")


async def test_a_user_of_another_homeserver_speaks_through_the_bot(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, "@eve:elsewhere.example", "hi")
        await world.settle()
        (got,) = await heard(bob)
        assert got.sender_uri == "mimi://a.example/u/_bridge"
        assert body_of(got) == "<@eve:elsewhere.example> hi"
        # Nobody decrypts what they said themselves. That is no message the bridge failed to read.
        assert not by(room, BOT)


def test_what_a_user_of_another_homeserver_does_is_said_with_their_name() -> None:
    eve = "@eve:elsewhere.example"

    def said(kind: str, content: dict[str, Any]) -> dict[str, Any]:
        made = relayed({"type": kind, "content": content}, eve)
        assert made["type"] == "m.room.message"
        found: dict[str, Any] = made["content"]
        return found

    formatted = said("m.room.message", {"msgtype": "m.text", "body": "hi", "formatted_body": "<b>hi</b>"})
    assert formatted["formatted_body"] == f"<strong>{eve}</strong>: <b>hi</b>"
    new = {"msgtype": "m.text", "body": "hello"}
    relation = {"rel_type": "m.replace", "event_id": "$x"}
    edit_of = {"msgtype": "m.text", "body": "* hello", "m.new_content": new, "m.relates_to": relation}
    edited = said("m.room.message", edit_of)
    assert edited == {"msgtype": "m.text", "body": f"<{eve}> hello"}
    assert said("m.sticker", {"body": "wave", "url": "mxc://a/b"})["msgtype"] == "m.image"
    assert said("m.poll.start", STABLE)["body"].startswith(f"<{eve}> Poll: Tea?")
    for kind in ("m.reaction", "m.room.redaction", "m.call.candidates"):
        with pytest.raises(NotBridged):
            relayed({"type": kind, "content": {"x": 1}}, eve)


async def test_events_that_were_never_pushed_are_found_by_the_audit(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, ALICE, "lost by the feed", push=False)
        world.homeserver.say(room, ALICE, "pushed")
        await world.settle()
        (first,) = await heard(bob)
        assert body_of(first) == "pushed"
        link = world.bridge.links.of_matrix(MATRIX_ROOM)
        assert link is not None
        async with world.homeserver.http() as http:
            api = HomeserverApi(f"https://{DOMAIN}", token=AS_TOKEN, http=http, user_id=BOT)
            audits = Audits(api, world.bridge.queue)
            assert await audits.run(link) == 1
            await world.settle()
            assert await audits.run(link) == 0
        (late,) = await heard(bob)
        assert body_of(late) == "lost by the feed"
        assert late.timestamp < first.timestamp


async def test_what_the_homeserver_forgot_comes_before_what_it_pushes_next(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, ALICE, "before its end")
        await world.settle()
        world.homeserver.say(room, ALICE, "forgotten", push=False)
        content = {"msgtype": "m.text", "body": "after its start"}
        new = world.homeserver.emit(room, ALICE, "m.room.message", content, push=False)
        # Numbers begin anew when it has nothing left to send.
        await push_events(world.bridge, [new], txn_id="1")
        await world.settle()
        assert [body_of(item) for item in await heard(bob, 3)] == [
            "before its end",
            "forgotten",
            "after its start",
        ]
