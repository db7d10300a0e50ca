"""Checkpoints and proofs for other servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import Checkpoint, sign_checkpoint, verify_checkpoint
from linearized.room.merkle import entry_leaf, verify_consistency, verify_inclusion
from linearized.room.submissions import LocalEvent
from linearized.server import proofs
from linearized.server.http import HttpError
from linearized.store.base import Role, RoomAppend, RoomRow
from linearized.store.history import AuditRow

from .support import ALICE, BOB, Answer, Foreign, World, room, world
from .test_events import entries, note

SCHEMAS = Path(__file__).parents[3] / "schemas" / "linearized"


async def ask(w: World, room_id: str, what: str, who: Foreign | None = None) -> Answer:
    path = f"/_linearized/v1/rooms/{quote(room_id, safe='')}/{what}"
    answer = await (who or w.foreign).ask("GET", path)
    if answer.status == 200:
        name = what.partition("?")[0].rpartition("/")[2]
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(answer.body)
    return answer


async def signed(w: World, room_id: str, query: str = "") -> Checkpoint:
    body = (await ask(w, room_id, f"checkpoint{query}")).body
    key = w.server.node.identity.key
    assert body["key_id"] == key.key_id
    return verify_checkpoint(
        body["checkpoint"], hub="a.example", room_id=room_id, keys={key.key_id: key.verify_key}
    )


def hashes(body: JsonObject) -> list[bytes]:
    return [decode_base64(found) for found in body["hashes"]]


async def test_what_the_hub_signs_and_proves_holds(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        before = await signed(w, room_id)
        for text in ("one", "two", "three"):
            await note(w, room_id, text)
        log = entries(w, room_id)
        after = await signed(w, room_id)
        assert (before.size, after.size) == (len(log) - 3, len(log))
        assert await signed(w, room_id, f"?size={before.size}") == before
        body = (await ask(w, room_id, f"proof/consistency?from={before.size}&to={after.size}")).body
        verify_consistency(before.size, before.root, after.size, after.root, hashes(body))
        for entry in log:
            for query in (f"event_id={quote(entry.event_id)}", f"seq={entry.seq}&size={after.size}"):
                body = (await ask(w, room_id, f"proof/inclusion?{query}")).body
                assert (body["event_id"], body["seq"], body["size"]) == (
                    entry.event_id, entry.seq, after.size,
                )  # fmt: skip
                leaf = entry_leaf(entry.event_id)
                verify_inclusion(leaf, entry.seq - 1, after.size, hashes(body), after.root)


@pytest.mark.parametrize(
    ("what", "status", "errcode"),
    [
        ("checkpoint?size=100", 400, "M_INVALID_PARAM"),
        ("checkpoint?size=x", 400, "M_INVALID_PARAM"),
        ("checkpoint?size=-1", 400, "M_INVALID_PARAM"),
        ("checkpoint?size=99999999999999999", 400, "M_INVALID_PARAM"),
        ("proof/consistency", 400, "M_MISSING_PARAM"),
        ("proof/consistency?from=1", 400, "M_MISSING_PARAM"),
        ("proof/consistency?from=3&to=2", 400, "M_INVALID_PARAM"),
        ("proof/consistency?from=1&to=100", 400, "M_INVALID_PARAM"),
        ("proof/consistency?from=a&to=2", 400, "M_INVALID_PARAM"),
        ("proof/inclusion", 400, "M_MISSING_PARAM"),
        ("proof/inclusion?seq=1&event_id=$x", 400, "M_INVALID_PARAM"),
        ("proof/inclusion?seq=0", 404, "M_NOT_FOUND"),
        ("proof/inclusion?seq=100", 404, "M_NOT_FOUND"),
        ("proof/inclusion?event_id=$unknown", 404, "M_NOT_FOUND"),
        ("proof/inclusion?seq=3&size=2", 400, "M_INVALID_PARAM"),
        ("proof/inclusion?seq=1&size=100", 400, "M_INVALID_PARAM"),
    ],
)
async def test_what_cannot_be_proved_is_refused(tmp_path: Path, what: str, status: int, errcode: str) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await ask(w, room_id, what)
        assert (answer.status, answer.errcode) == (status, errcode)


@pytest.mark.parametrize("what", ["checkpoint", "proof/consistency?from=1&to=2", "proof/inclusion?seq=1"])
async def test_a_server_outside_learns_nothing_and_one_that_left_what_it_saw(
    tmp_path: Path, what: str
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        eve = Foreign("c.example", w.network)
        for place, who in ((room_id, eve), ("!unknown:a.example", w.foreign), ("no room", w.foreign)):
            answer = await ask(w, place, what, who)
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
        await w.foreign.join(room_id)
        left = w.foreign.member(room_id, BOB, "leave")
        assert (await w.foreign.send("left", left)).status == 200
        seen = len(entries(w, room_id))
        hidden = await note(w, room_id, "in private")
        assert (await signed(w, room_id)).size == seen
        for past in (
            f"proof/inclusion?event_id={quote(hidden)}",
            f"proof/consistency?from=1&to={seen + 1}",
            f"checkpoint?size={seen + 1}",
        ):
            assert (await ask(w, room_id, past)).status in {400, 404}


async def test_an_event_of_another_room_is_not_in_this_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id, other = await room(w.server), await room(w.server)
        await w.foreign.join(room_id)
        elsewhere = entries(w, other)[0].event_id
        answer = await ask(w, room_id, f"proof/inclusion?event_id={quote(elsewhere)}")
        assert answer.errcode == "M_NOT_FOUND"


@pytest.mark.parametrize("hub", [None, "a.example", "b.example"])
async def test_a_participant_passes_on_the_checkpoint_it_holds_of_the_present_hub(
    tmp_path: Path, hub: str | None
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        store = w.server.node.store
        row = RoomRow(
            room_id=room_id, version="I.1", role=Role.PARTICIPANT, hub="b.example", head_seq=3, epoch=None
        )
        await store.append(RoomAppend(room_id=room_id, room=row))
        note_of_two = sign_checkpoint(w.foreign.identity, room_id, size=2, root=bytes(32)).note
        if hub is not None:
            held: dict[str, Any] = dict.fromkeys(("anchor_seq", "anchor_size", "size", "checked_at"), 2)
            await store.put_audit(
                AuditRow(
                    room_id=room_id,
                    hub=hub,
                    checkpoint=note_of_two,
                    key_id="ed25519:b",
                    anchor_frontier=b"",
                    frontier=b"",
                    **held,
                )
            )
        if hub == "b.example":
            for may_know in (3, 2):
                answer = await proofs.checkpoint(w.server.node, row, size=None, until=may_know)
                assert answer == {"checkpoint": note_of_two, "key_id": "ed25519:b"}
            with pytest.raises(HttpError, match="for you") as refused:
                await proofs.checkpoint(w.server.node, row, size=None, until=1)
            assert refused.value.errcode == "M_NOT_FOUND"
            return
        with pytest.raises(HttpError) as refused:
            await proofs.checkpoint(w.server.node, row, size=None, until=3)
        assert refused.value.errcode == "M_NOT_FOUND"


async def test_a_server_that_the_acl_denies_gets_no_proofs(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        rule = {"allow": ["*"], "deny": ["b.example"]}
        acl = LocalEvent(sender=ALICE, type="m.room.server_acl", state_key="", content=rule)
        await w.server.node.rooms.send(room_id, acl)
        assert (await ask(w, room_id, "checkpoint")).errcode == "M_FORBIDDEN"
