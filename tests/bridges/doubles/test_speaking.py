from __future__ import annotations

from typing import Any

import httpx
import pytest

from bridges.matrix.doubles import speaking
from bridges.matrix.doubles.speaking import MARK
from bridges.matrix.rendering import RedactEvent, SendEvent
from linearized.client import ApiError, MalformedAnswer, ServerUnreachable
from tests.bridges.doubles.rig import TOKEN, DoublesRig, doubles_rig, edit_event, text_event
from tests.bridges.support import ALICE, BOT, CAROL, GHOST_BOB, MATRIX_ROOM

REACTION = SendEvent(
    "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$1", "key": "+1"}}
)


async def test_the_user_says_what_their_other_account_says_and_changes_it() -> None:
    async with doubles_rig() as rig:
        assert rig.said() == []
        await rig.say("before")
        await rig.prove()
        event_id = await rig.say("first", "$log")
        assert await rig.say("first", "$log") == event_id
        await rig.act(edit_event(event_id, "second"))
        await rig.act(REACTION)
        await rig.act(RedactEvent(event_id))
        assert rig.said() == [(GHOST_BOB, "before"), (CAROL, "first"), (CAROL, "* second")]
        assert rig.redactions() == [(CAROL, event_id)]
        assert [e["sender"] for e in rig.room.timeline if e["type"] == "m.reaction"] == [CAROL]


async def test_in_an_encrypted_room_the_ghost_speaks_and_the_user_reacts() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        event_id = await rig.say("in the clear")
        rig.encrypted = True
        await rig.say("in secret")
        await rig.act(edit_event(event_id, "a new version"))
        await rig.act(REACTION)
        await rig.act(RedactEvent(event_id))
        assert rig.said() == [(CAROL, "in the clear"), (GHOST_BOB, "in secret"), (GHOST_BOB, "a new version")]
        assert rig.redactions() == [(CAROL, event_id)]
        assert [e["sender"] for e in rig.room.timeline if e["type"] == "m.reaction"] == [CAROL]


async def test_what_the_ghost_said_the_ghost_changes() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        rig.homeserver.limited.add(CAROL)
        event_id = await rig.say("first")
        rig.homeserver.limited.clear()
        await rig.act(edit_event(event_id, "second"))
        await rig.act(RedactEvent(event_id))
        assert rig.said() == [(GHOST_BOB, "first"), (GHOST_BOB, "* second")]
        assert rig.redactions() == [(GHOST_BOB, event_id)]


async def test_without_the_token_an_edit_is_a_new_message_and_the_bot_redacts() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        event_id = await rig.say("first")
        await rig.tell("logout")
        await rig.act(edit_event(event_id, "second"))
        await rig.act(RedactEvent(event_id))
        assert rig.said() == [(CAROL, "first"), (GHOST_BOB, "second")]
        assert rig.redactions() == [(BOT, event_id)]


async def test_a_token_that_no_longer_works_gives_way_to_the_ghost_and_one_notice() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        rig.homeserver.tokens.clear()
        for body in ("one", "two"):
            await rig.say(body)
        assert rig.said() == [(GHOST_BOB, "one"), (GHOST_BOB, "two")]
        assert [text for text in rig.told() if "no longer works" in text] == [rig.told()[-1]]
        assert "no longer works" in await rig.tell("whoami")
        rig.homeserver.tokens["user-carol-2"] = CAROL
        assert await rig.tell("login user-carol-2") == "I have the new token."
        await rig.say("three")
        assert rig.said()[-1] == (CAROL, "three")
        # What failed with the token of before says nothing of this one.
        await rig.login.lost(CAROL, TOKEN)
        assert "no longer works" not in await rig.tell("whoami")
        await rig.login.lost(ALICE, TOKEN)


@pytest.mark.parametrize("why", ["too much", "forbidden", "not there"])
async def test_what_the_user_may_not_say_their_ghost_says(why: str) -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        told = rig.told()
        if why == "too much":
            rig.homeserver.limited.add(CAROL)
        elif why == "forbidden":
            rig.room.forbidden.add((CAROL, "m.room.message"))
        else:
            rig.homeserver.member(rig.room, CAROL, "leave")
        event_id = await rig.say(why, "$log")
        assert await rig.say(why, "$log") == event_id
        assert rig.said() == [(GHOST_BOB, why)]
        assert rig.told() == told


def cut(rig: DoublesRig, when_cut: str, *, lose_token: bool) -> None:
    """Break the connection of the next request with Carol's token, before or after it takes effect."""
    broken: list[str] = []

    def fault(when: str, request: httpx.Request) -> None:
        if when == when_cut and not broken and TOKEN in request.headers["authorization"]:
            broken.append(when)
            if lose_token:
                rig.homeserver.tokens.clear()
            raise httpx.ReadError("cut")

    rig.homeserver.fault = fault


@pytest.mark.parametrize(
    ("when", "lose_token", "author"),
    [
        ("before", False, CAROL),
        ("after", False, CAROL),
        ("after", True, CAROL),
        ("before", True, GHOST_BOB),
    ],
)
async def test_what_was_sent_when_the_answer_was_lost_is_there_once(
    when: str, lose_token: bool, author: str
) -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        cut(rig, when, lose_token=lose_token)
        with pytest.raises(ServerUnreachable):
            await rig.say("once", "$log")
        for number in range(250):  # more than one page
            rig.homeserver.say(rig.room, ALICE, f"{number}")
        await rig.say("once", "$log")
        assert [who for who, body in rig.said() if body == "once"] == [author]


async def test_a_redaction_that_was_sent_is_found_as_well() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        event_id = await rig.say("first")
        cut(rig, "after", lose_token=True)
        with pytest.raises(ServerUnreachable):
            await rig.act(RedactEvent(event_id), "$log")
        await rig.act(RedactEvent(event_id), "$log")
        assert rig.redactions() == [(CAROL, event_id)]


@pytest.mark.parametrize("bound", ["pages", "time"])
async def test_the_search_for_what_was_sent_ends(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(speaking, "MAX_PAGES", 2 if bound == "pages" else 50)
    async with doubles_rig() as rig:
        await rig.prove()
        cut(rig, "before", lose_token=True)
        if bound == "time":
            rig.now += 10**9
        with pytest.raises(ServerUnreachable):
            await rig.say("once", "$log")
        for number in range(500):
            rig.homeserver.say(rig.room, ALICE, f"{number}")
        rig.homeserver.requests.clear()
        await rig.say("once", "$log")
        assert rig.said()[-1] == (GHOST_BOB, "once")
        pages = [line for line in rig.homeserver.requests if line.endswith("/messages")]
        assert len(pages) == (2 if bound == "pages" else 1)


async def test_a_homeserver_that_fails_is_waited_for_and_one_that_answers_nothing_is_named() -> None:
    async with doubles_rig() as rig:
        await rig.prove()

        class Answering(httpx.AsyncBaseTransport):
            status = 500

            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                return httpx.Response(self.status, json={})

        answering = Answering()
        rig.speaking._http = httpx.AsyncClient(transport=answering)
        with pytest.raises(ApiError):
            await rig.say("hello")
        with pytest.raises(ApiError):
            await rig.speaking.read(MATRIX_ROOM, GHOST_BOB, "$1")
        answering.status = 200
        with pytest.raises(MalformedAnswer):
            await rig.say("hello")
        await rig.speaking._http.aclose()


async def test_what_comes_back_is_known_and_copies_of_it_are_not() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        event_id = await rig.say("first", "$log")
        await rig.act(RedactEvent(event_id))
        first, redaction = rig.room.timeline[-2:]
        assert rig.speaking.is_echo(first)
        assert rig.speaking.is_echo(redaction)
        for other in (
            {**first, "event_id": "$forwarded"},
            {**first, "sender": ALICE},
            {**first, "room_id": "!other:matrix.example"},
            {**redaction, "event_id": "$again"},
            {**redaction, "sender": ALICE},
            {**redaction, "redacts": "$other", "content": {}},
            {"type": "m.room.redaction", "sender": CAROL, "content": "text"},
            *(
                {**first, "content": {MARK: mark}}
                for mark in ("$log/1", "$x/0", "$log/" + "9" * 5000, "x", 7)
            ),
        ):
            assert not rig.speaking.is_echo(other)


async def test_what_a_killed_bridge_sent_is_known_by_its_mark_and_not_sent_again() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        cut(rig, "after", lose_token=False)
        with pytest.raises(ServerUnreachable):
            await rig.say("once", "$log")
        event = rig.room.timeline[-1]
        forged = {**event, "content": {**event["content"], MARK: "$log/0 "}}
        assert not rig.speaking.is_echo(forged)
        assert rig.speaking.is_echo(event)
        rig.homeserver.tokens.clear()
        assert await rig.say("once", "$log") == event["event_id"]
        assert rig.said() == [(CAROL, "once")]


# --- receipts ---


async def test_who_reads_has_read_as_themselves_as_long_as_they_can() -> None:
    async with doubles_rig() as rig:
        assert not await rig.speaking.read(MATRIX_ROOM, GHOST_BOB, "$1")
        await rig.prove()
        assert await rig.speaking.read(MATRIX_ROOM, GHOST_BOB, "$1")
        assert rig.homeserver.receipts == [(MATRIX_ROOM, CAROL, "$1")]
        assert rig.speaking.is_own_reading(MATRIX_ROOM, CAROL, "$1")
        for other in ((MATRIX_ROOM, CAROL, "$2"), (MATRIX_ROOM, ALICE, "$1"), ("!x:y", CAROL, "$1")):
            assert not rig.speaking.is_own_reading(*other)
        rig.room.forbidden.add((CAROL, "receipt"))
        assert not await rig.speaking.read(MATRIX_ROOM, GHOST_BOB, "$2")
        rig.homeserver.tokens.clear()
        assert not await rig.speaking.read(MATRIX_ROOM, GHOST_BOB, "$3")
        assert "no longer works" in rig.told()[-1]


@pytest.mark.parametrize("relation", [7, {"rel_type": "m.thread", "event_id": "$1"}, {}])
async def test_a_message_with_any_other_relation_changes_nothing(relation: Any) -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        await rig.act(text_event("hello", **{"m.relates_to": relation}))
        assert rig.said() == [(CAROL, "hello")]
