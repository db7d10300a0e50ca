"""Audits against hubs that answer badly or not at all, and when audits happen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import trio
import trio.testing

from linearized.exceptions import InvalidInput, ProofError, SignatureError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import sign_checkpoint
from linearized.room.submissions import LocalEvent
from linearized.server import auditing
from linearized.server.auditing import SUSPICION, Auditor
from linearized.server.exchange import OutboundError
from linearized.server.remote_log import RemoteLog
from linearized.store.base import Role, RoomRow
from tests.interop.hostile_hub import ALICE, arrived, shared_room
from tests.server.support import Network, Server

Change = Callable[[str, JsonObject], JsonObject]


@asynccontextmanager
async def room_of_three(directory: Path) -> AsyncIterator[tuple[Server, Server, Server, str]]:
    """A hub and two participants, none of which audits anything by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Auditor, "due", lambda *_: None)
        async with shared_room(directory, Network()) as world:
            yield world


async def say(a: Server, room_id: str, *others: Server) -> None:
    event = LocalEvent(sender=ALICE, type="m.room.message", content={"body": "?"})
    last = await a.node.rooms.send(room_id, event)
    for other in others:
        await arrived(other, last)


def answer_differently(server: Server, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """What the hub answers ``server`` about its log goes through ``change``, which gets the path too."""
    real = server.node.federation.request

    async def request(name: str, method: str, path: str, **more: Any) -> JsonObject:
        answer = await real(name, method, path, **more)
        return change(path, answer) if name == "a.example" and "/_linearized/" in path else answer

    monkeypatch.setattr(server.node.federation, "request", request)


# --- answers that are none ---


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({}, ProofError),
        ({"checkpoint": 3, "key_id": "ed25519:a"}, ProofError),
        ({"checkpoint": "x"}, ProofError),
        ({"checkpoint": "x", "key_id": "ed25519:a"}, ProofError),
    ],
)
async def test_an_answer_that_is_no_checkpoint_shows_nothing(
    tmp_path: Path, answer: JsonObject, error: type[InvalidInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (_, b, _, room_id):
        answer_differently(b, monkeypatch, lambda *_: answer)
        with pytest.raises(error):
            await b.node.audits.audit(room_id)
        assert b.node.store.audit(room_id) is None
        assert not b.node.store.findings()


async def test_a_checkpoint_by_another_key_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (_, b, c, room_id):
        forged = sign_checkpoint(c.node.identity, room_id, size=9, root=bytes(32)).note
        forged = forged.replace("c.example/", "a.example/")
        answer_differently(b, monkeypatch, lambda _, real: {**real, "checkpoint": forged})
        with pytest.raises(SignatureError):
            await b.node.audits.audit(room_id)
        assert not b.node.store.findings()


async def test_a_checkpoint_of_another_size_than_the_one_asked_for_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (a, b, _, room_id):
        other = (await a.node.trees.checkpoint(room_id, 2)).note
        answer_differently(b, monkeypatch, lambda _, real: {**real, "checkpoint": other})
        with pytest.raises(ProofError, match="another size"):
            await RemoteLog(b.node, room_id, "a.example").checkpoint("a.example", size=3)


# --- answers that do not fit ---


def spoil(kind: str, **members: Any) -> Change:
    return lambda path, answer: {**answer, **members} if kind in path else answer


@pytest.mark.parametrize(
    "change",
    [
        spoil("proof/inclusion", hashes=[]),
        spoil("proof/inclusion", hashes=None),
        spoil("proof/inclusion", hashes=["?"]),
        spoil("proof/inclusion", hashes=[3]),
        spoil("proof/inclusion", hashes=[encode_base64(bytes(32))] * 65),
        spoil("proof/inclusion", seq=1),
        spoil("proof/inclusion", seq="1"),
        spoil("proof/inclusion", seq=True),
        spoil("proof/inclusion", seq=0),
    ],
)
async def test_a_log_that_is_not_shown_to_hold_what_we_were_sent_is_suspect(
    tmp_path: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (_, b, _, room_id):
        answer_differently(b, monkeypatch, change)
        found = await b.node.audits.audit(room_id)
        assert found is not None
        assert not found.proven
        document = orjson.loads(found.document)
        assert (document["type"], document["hub"], document["room_id"]) == (SUSPICION, "a.example", room_id)
        assert len(document["checkpoints"]) == 1
        assert b.node.store.audit(room_id) is None


@pytest.mark.parametrize("hashes", [[], None, [encode_base64(bytes(32))]])
async def test_a_log_that_is_not_shown_to_continue_the_last_one_is_suspect(
    tmp_path: Path, hashes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (a, b, _, room_id):
        assert await b.node.audits.audit(room_id) is None
        held = b.node.store.audit(room_id)
        await say(a, room_id, b)
        await say(a, room_id, b)
        answer_differently(b, monkeypatch, spoil("proof/consistency", hashes=hashes))
        found = await b.node.audits.audit(room_id)
        assert found is not None
        assert "not a continuation" in found.reason
        assert b.node.store.audit(room_id) == held


async def test_a_refusal_to_prove_what_it_signed_is_suspect_and_an_outage_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (a, b, _, room_id):
        await b.node.audits.audit(room_id)
        await say(a, room_id, b)
        real = b.node.federation.request
        statuses = iter((None, 404, 503, 400))

        async def request(name: str, method: str, path: str, **more: Any) -> JsonObject:
            if "proof/" in path:
                raise OutboundError("no", status=next(statuses), errcode="M_X")
            return await real(name, method, path, **more)

        monkeypatch.setattr(b.node.federation, "request", request)
        for _ in range(3):
            with pytest.raises(OutboundError):
                await b.node.audits.audit(room_id)
        assert not b.node.store.findings()
        assert await b.node.audits.audit(room_id) is not None


async def test_an_old_checkpoint_shown_again_is_a_true_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (a, b, _, room_id):
        old = (await a.node.trees.checkpoint(room_id, 3)).note
        await b.node.audits.audit(room_id)
        held = b.node.store.audit(room_id)
        assert held is not None
        answer_differently(b, monkeypatch, spoil("/checkpoint", checkpoint=old))
        assert await b.node.audits.audit(room_id) is None
        after = b.node.store.audit(room_id)
        assert after is not None
        assert (after.size, after.checkpoint) == (held.size, held.checkpoint)


async def test_a_hub_ahead_of_what_it_has_sent_is_followed_when_that_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def held_up(*_: object) -> JsonObject:
        raise OutboundError("on its way")

    async with room_of_three(tmp_path) as (a, b, _, room_id):
        await b.node.audits.audit(room_id)
        monkeypatch.setattr(a.node.federation, "transaction", held_up)
        for _ in range(3):
            await say(a, room_id)
        head = row_of(a, room_id).head_seq
        for _ in range(2):  # the second finds the checkpoint of the first still ahead
            assert await b.node.audits.audit(room_id) is None
            held = b.node.store.audit(room_id)
            assert held is not None
            assert held.checkpoint.split("\n")[1] == str(head)
            assert held.size == head - 3
        monkeypatch.undo()
        a.node.followers.contacted("b.example")
        await arrived(b, a.node.store.entries(room_id, after=head - 1, limit=1)[0].event_id)
        assert await b.node.audits.audit(room_id) is None
        held = b.node.store.audit(room_id)
        assert held is not None
        assert held.size == head
        assert not b.node.store.findings()


async def test_who_was_removed_does_not_doubt_a_hub_for_what_others_are_shown_later(tmp_path: Path) -> None:
    async with room_of_three(tmp_path) as (a, b, c, room_id):
        kick = LocalEvent(
            sender=ALICE, type="m.room.member", state_key="@bob:b.example", content={"membership": "leave"}
        )
        await arrived(b, await a.node.rooms.send(room_id, kick))
        await say(a, room_id, c)
        assert await c.node.audits.audit(room_id) is None
        assert await b.node.audits.audit(room_id) is None
        assert not b.node.store.findings()


async def test_entries_that_are_not_those_it_signed_ahead_are_suspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_of_three(tmp_path) as (a, b, _, room_id):
        await b.node.audits.audit(room_id)
        held = b.node.store.audit(room_id)
        assert held is not None
        size = row_of(a, room_id).head_seq
        ahead = sign_checkpoint(a.node.identity, room_id, size=size + 1, root=bytes(32)).note
        await b.node.store.put_audit(replace(held, checkpoint=ahead))
        await say(a, room_id, b)
        monkeypatch.setattr("linearized.server.audit.Audit._consistent", _nothing)
        found = await b.node.audits.audit(room_id)
        assert found is not None
        assert "other entries than it had signed" in found.reason
        assert found.proven  # two roots for that size, both signed


async def _nothing(*_: Any) -> None:
    """As if the hub had proved it: whatever it proves, our own entries decide."""


# --- when ---


def row_of(server: Server, room_id: str) -> RoomRow:
    row = server.node.store.room(room_id)
    assert row is not None
    return row


async def test_a_hub_and_a_stranger_audit_nothing(tmp_path: Path) -> None:
    async with room_of_three(tmp_path) as (a, _, _, room_id):
        assert await a.node.audits.audit(room_id) is None
        assert await a.node.audits.audit("!unknown:a.example") is None
        assert a.node.store.audit(room_id) is None


async def test_a_room_that_moved_to_another_hub_is_audited_from_there_anew(tmp_path: Path) -> None:
    async with room_of_three(tmp_path) as (_, b, _, room_id):
        await b.node.audits.audit(room_id)
        held = b.node.store.audit(room_id)
        assert held is not None
        await b.node.store.put_audit(replace(held, hub="old.example"))
        assert await b.node.audits.audit(room_id) is None
        after = b.node.store.audit(room_id)
        assert after is not None
        assert after.hub == "a.example"


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rooms that audits were asked for."""
    found: list[str] = []
    monkeypatch.setattr(Auditor, "due", lambda _, room_id: found.append(room_id))
    return found


async def test_a_join_a_restart_and_a_closed_gap_make_a_room_due(tmp_path: Path, wanted: list[str]) -> None:
    async with shared_room(tmp_path, Network()) as (_, b, _, room_id):
        assert wanted == [room_id] * 2  # both have joined
        wanted.clear()
        b.node.audits.begin()
        assert wanted == [room_id]
        b.node.audits.received(room_id, 1)
        assert wanted == [room_id]
        b.node.audits.received(room_id, 2)
        assert wanted == [room_id] * 2


async def test_a_live_room_is_due_after_so_many_entries(tmp_path: Path, wanted: list[str]) -> None:
    async with shared_room(tmp_path, Network()) as (_, b, _, room_id):
        await b.node.audits.audit(room_id)
        wanted.clear()
        for _ in range(auditing.AUDIT_ENTRIES - 1):
            b.node.audits.received(room_id, 1)
        assert not wanted
        b.node.audits.received(room_id, 1)
        assert wanted == [room_id]


def idle_auditor() -> Auditor:
    """One of a node whose store has no findings; nothing else of it is asked."""
    return Auditor(cast("Any", SimpleNamespace(store=SimpleNamespace(findings=list))))


async def test_rooms_with_something_new_are_audited_every_round_whatever_went_wrong_before(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited: list[tuple[float, str]] = []
    errors = iter([OutboundError("down"), ProofError("nonsense"), RuntimeError("a bug"), None])

    async def audit(self: Auditor, room_id: str) -> None:
        self._fresh.pop(room_id, None)
        audited.append((trio.current_time(), room_id))
        if (error := next(errors)) is not None:
            raise error

    monkeypatch.setattr(Auditor, "audit", audit)
    auditor = idle_auditor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auditor.run)
        await trio.sleep(10)
        for number in range(1, 5):
            auditor.received("!r:a.example", 1)
            await trio.sleep(auditing.AUDIT_SECONDS)
            assert len(audited) == number
        await trio.sleep(auditing.AUDIT_SECONDS * 3)
        nursery.cancel_scope.cancel()
    start = audited[0][0] - auditing.AUDIT_SECONDS
    assert [time - start for time, _ in audited] == [
        auditing.AUDIT_SECONDS * number for number in range(1, 5)
    ]


async def test_many_rooms_are_audited_a_few_at_a_time_and_none_for_ever(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, done = 0, 0, 0

    async def audit(_: Auditor, room_id: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        try:
            await trio.sleep_forever()
        finally:
            running -= 1
            done += 1

    monkeypatch.setattr(Auditor, "audit", audit)
    auditor = idle_auditor()
    for number in range(20):
        auditor.due(f"!{number}:a.example")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auditor.run)
        await trio.sleep(auditing.AUDIT_DEADLINE * 3 + 1)
        nursery.cancel_scope.cancel()
    assert (most, done) == (auditing.AT_ONCE, 20)


def test_only_participants_rooms_with_a_log_are_audited() -> None:
    def row(role: Role, head: int) -> RoomRow:
        return RoomRow(room_id="!r:a.example", version="I.1", role=role, hub="a", head_seq=head, epoch=None)

    assert [auditing._is_audited(row(role, head)) for role in Role for head in (0, 1)] == [
        False, False, False, True, False, False,
    ]  # fmt: skip
