"""A participant sends to its hub: refusals, and echoes that are late or never come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server import echoes
from linearized.store.base import Reply
from tests.server.linearized_pair import (
    BOB,
    joined_pair,
)


@pytest.mark.parametrize(
    "answer",
    [{"failed_pdus": {"$x": {"error": "No"}}}, {"failed_pdus": {"$x": "No"}}, {"failed_pdus": {"$x": {}}}],
)
async def test_a_refusal_by_the_hub_reaches_who_sent(
    tmp_path: Path, answer: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:

        async def request(*_: Any, **__: Any) -> JsonObject:
            return answer

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(Rejected):
            await pair.say(pair.b, "?")
        assert not pair.b.node.rooms.participating._echoes._waiting


@pytest.mark.parametrize(
    ("said", "code", "epoch"),
    [
        ({"errcode": "M_WRONG_EPOCH", "current_epoch": 7}, Reason.WRONG_EPOCH, 7),
        ({"errcode": "M_WRONG_EPOCH", "current_epoch": "7"}, Reason.FORBIDDEN, None),
        ({"errcode": "M_WRONG_EPOCH", "current_epoch": True}, Reason.FORBIDDEN, None),
        ({"errcode": "M_OTHER", "current_epoch": 7}, Reason.FORBIDDEN, None),
    ],
)
async def test_who_sent_learns_which_epoch_it_is(
    tmp_path: Path, said: JsonObject, code: Reason, epoch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:

        async def request(*_: Any, **__: Any) -> JsonObject:
            return {"failed_pdus": {"$x": {"error": "No", **said}}}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(Rejected) as refused:
            await pair.say(pair.b, "?")
        assert (refused.value.code, refused.value.current_epoch) == (code, epoch)


async def test_an_event_that_never_comes_back_is_not_said_to_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echoes, "ECHO_SECONDS", 0.05)
    async with joined_pair(tmp_path) as pair:

        async def request(*_: Any, **__: Any) -> JsonObject:
            return {"failed_pdus": []}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(trio.TooSlowError):
            await pair.say(pair.b, "?")


@pytest.mark.parametrize("late", [True, False])
async def test_what_is_sent_again_since_its_echo_was_late_is_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    async with joined_pair(tmp_path) as pair:
        event = LocalEvent(sender=BOB, type="m.room.message", content={"body": "once"})
        reply = Reply(scope="txn", key="1", value="{event_id}")
        pair.network.down.add("b.example")
        with monkeypatch.context() as patch:
            patch.setattr(echoes, "ECHO_SECONDS", 0.2)
            with pytest.raises(trio.TooSlowError):
                await pair.b.node.rooms.send(pair.room_id, event, reply=reply)
        pair.network.down.discard("b.example")
        taken = pair.log(pair.a)[-1].event_id
        if not late:
            pair.a.node.followers.contacted("b.example")
            await pair.arrived(taken)
        assert await pair.b.node.rooms.send(pair.room_id, event, reply=reply) == taken
        assert [entry.sender for entry in pair.log(pair.a)].count(BOB) == 2  # the join and this
        another = replace(reply, key="2")
        assert await pair.b.node.rooms.send(pair.room_id, event, reply=another) != taken
