"""What becomes of an event that fails each of the draft's checks, at a participant and at a hub.

The participant is ours, and its hub is too, but sends what no hub may; then the hub is ours and gets what no
participant may send.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from linearized.protocol.canonical import JsonObject
from linearized.protocol.hashing import event_id, signed_bytes
from linearized.protocol.outcomes import OUTCOMES, Check, Outcome
from linearized.protocol.signing import add_signature
from linearized.server.clients import history
from linearized.server.clients.context import context_of
from linearized.server.clients.projection import client_events
from linearized.server.http import HttpError
from linearized.store.base import EntryRow
from tests.server.federation.support import BOB, V1, World, room, world
from tests.server.linearized_pair import ALICE, HubPair, hub_pair

ALGORITHM = "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"
CALLER: Any = SimpleNamespace(user_id=BOB, scope="s")
ENCRYPTED = {"encryption": {"algorithm": ALGORITHM}}


async def delivered(pair: HubPair, pdu: JsonObject) -> tuple[Outcome, EntryRow | None]:
    """Hand the participant an event of its hub in a transaction; what became of it."""
    before = pair.row(pair.b).head_seq
    answer = await pair.a.node.federation.request(
        "b.example",
        "PUT",
        f"/_matrix/federation/v2/send/{pair.a.node.ids(8)}",
        json={"pdus": [pdu]},
    )
    new = pair.b.node.store.entries(pair.room_id, after=before, limit=10)
    if not new:
        return (Outcome.REJECTED if answer["failed_pdus"] else Outcome.DROPPED), None
    assert answer["failed_pdus"] == {}
    if not client_events(context_of(pair.b.node), CALLER, new):
        return Outcome.SOFT_FAILED, new[0]
    changed = orjson.loads(new[0].pdu)["content"] != pdu["content"]
    return (Outcome.REDACTED if changed else Outcome.ACCEPTED), new[0]


async def joined(pair: HubPair) -> None:
    """Bob joins; the log ends with an event of Alice's, whose auth events the next one can have."""
    await pair.join()
    await pair.arrived(await pair.state("m.room.name", "", {"name": "x"}))


def with_content(pair: HubPair, content: JsonObject) -> JsonObject:
    return {**pair.event(), "content": content}


Forge = Callable[[HubPair], JsonObject]

PDUS: list[tuple[str, Forge, Check | None]] = [
    ("an event as it should be", lambda pair: pair.event(), None),
    ("no type", lambda pair: {**pair.event(), "type": 5}, Check.SCHEMA),
    ("two hubs' worth of previous events", lambda pair: {**pair.event(), "prev_events": []}, Check.SCHEMA),
    ("no signature", lambda pair: {**pair.event(), "signatures": {}}, Check.SIGNATURES),
    # In the draft's order: what fails two checks becomes what the first of them makes of it.
    ("no type and no signature", lambda pair: {**pair.event(), "type": 5, "signatures": {}}, Check.SCHEMA),
    (
        "another content and no signature",
        lambda pair: {**with_content(pair, {"body": "x"}), "signatures": {}},
        Check.SIGNATURES,
    ),
    (
        "another content, of somebody who is not in the room",
        lambda pair: {**pair.event(sender="@eve:a.example"), "content": {"body": "x"}},
        Check.RULES,
    ),
    ("another time than was signed", lambda pair: {**pair.event(), "origin_server_ts": 2}, Check.SIGNATURES),
    ("another content than was hashed", lambda pair: with_content(pair, {"body": "x"}), Check.CONTENT_HASH),
    (
        "somebody who is not in the room",
        lambda pair: pair.event(sender="@eve:a.example", type="m.room.topic", state_key=""),
        Check.RULES,
    ),
    ("a room nobody knows", lambda pair: {**pair.event(), "room_id": "!nowhere:a.example"}, Check.ROOM),
    (
        "an LPDU to a participant",
        lambda pair: {
            name: value for name, value in pair.event().items() if name not in {"auth_events", "prev_events"}
        },
        Check.HUB,
    ),
]


@pytest.mark.parametrize(("forge", "check"), [case[1:] for case in PDUS], ids=[case[0] for case in PDUS])
async def test_what_a_participant_does_with_an_event_of_its_hub(
    tmp_path: Path, forge: Forge, check: Check | None
) -> None:
    async with hub_pair(tmp_path) as pair:
        await joined(pair)
        outcome, entry = await delivered(pair, forge(pair))
        assert outcome is (OUTCOMES[check] if check is not None else Outcome.ACCEPTED)
        if outcome is Outcome.REDACTED:
            assert entry is not None
            assert orjson.loads(entry.pdu)["content"] == {}


GROUP_EVENTS: list[tuple[str, str, JsonObject]] = [
    ("plaintext in an encrypted room", "m.room.message", {"body": "x"}),
    ("a commit that is none", "m.mls.commit", {"message": "AA", "public_group_state": "AA"}),
    ("a commit without its parts", "m.mls.commit", {}),
]


@pytest.mark.parametrize(
    ("kind", "content"), [case[1:] for case in GROUP_EVENTS], ids=[case[0] for case in GROUP_EVENTS]
)
async def test_what_breaks_the_mls_constraints_stands_in_the_log_and_is_shown_to_nobody(
    tmp_path: Path, kind: str, content: JsonObject
) -> None:
    async with hub_pair(tmp_path, creation_content=ENCRYPTED) as pair:
        await joined(pair)
        pdu = pair.event(type=kind, content=content)
        outcome, entry = await delivered(pair, pdu)
        assert outcome is OUTCOMES[Check.PDU_GROUP] is Outcome.SOFT_FAILED
        assert entry is not None
        assert (entry.event_id, entry.epoch) == (event_id(pdu, V1), None)
        assert orjson.loads(entry.pdu) == pdu
        params = {"room_id": pair.room_id, "event_id": entry.event_id}
        request: Any = SimpleNamespace(params=params)
        with pytest.raises(HttpError) as hidden:
            await history.event(context_of(pair.b.node), request, CALLER)
        assert hidden.value.status == 404
        # and the room goes on behind it
        topic = pair.event(type="m.room.topic", state_key="", content={}, prev_events=[entry.event_id])
        assert (await delivered(pair, topic))[0] is Outcome.ACCEPTED


def changed(pdu: JsonObject, **fields: Any) -> JsonObject:
    return {**pdu, **fields}


def note(w: World, room_id: str, **more: Any) -> JsonObject:
    return w.foreign.lpdu(room_id, BOB, "org.example.note", {"text": "x"}, **more)


def wrong_hash(w: World, room_id: str) -> JsonObject:
    """An LPDU whose signature is right and whose hash, which it covers, is not."""
    lpdu = note(w, room_id)
    del lpdu["signatures"]
    lpdu["hashes"] = {"lpdu": {"sha256": "A" * 43}}
    return signed(w, lpdu)


def signed(w: World, lpdu: JsonObject) -> JsonObject:
    key = w.foreign.identity.key
    signature = key.sign(signed_bytes(lpdu, V1))
    return add_signature(lpdu, name=w.foreign.name, key_id=key.key_id, signature=signature)


LPDUS: list[tuple[str, Callable[[World, str], JsonObject], Check | None]] = [
    ("an LPDU as it should be", note, None),
    ("no content", lambda w, r: changed(note(w, r), content=[]), Check.SCHEMA),
    ("hashes only a hub may set", lambda w, r: changed(note(w, r), hashes={"sha256": "x"}), Check.SCHEMA),
    ("too large", lambda w, r: changed(note(w, r), content={"text": "x" * 65536}), Check.SCHEMA),
    ("no signature", lambda w, r: changed(note(w, r), signatures={}), Check.SIGNATURES),
    ("another's signature", lambda w, r: changed(note(w, r), sender="@eve:c.example"), Check.SIGNATURES),
    ("another time than was signed", lambda w, r: changed(note(w, r), origin_server_ts=9), Check.SIGNATURES),
    ("a wrong hash", wrong_hash, Check.LPDU_HASH),
    (
        "a wrong hash and no signature",
        lambda w, r: changed(wrong_hash(w, r), signatures={}),
        Check.SIGNATURES,
    ),
    (
        "more than its power level allows",
        lambda w, r: w.foreign.lpdu(r, BOB, "m.room.topic", {"topic": "x"}, state_key=""),
        Check.RULES,
    ),
    ("a room nobody knows", lambda w, r: note(w, "!nowhere:a.example"), Check.ROOM),
    (
        "a commit in a room that is not encrypted",
        lambda w, r: w.foreign.lpdu(r, BOB, "m.mls.commit", {}),
        Check.LPDU_GROUP,
    ),
]


@pytest.mark.parametrize(("make", "check"), [case[1:] for case in LPDUS], ids=[case[0] for case in LPDUS])
async def test_what_a_hub_does_with_an_lpdu(
    tmp_path: Path, make: Callable[[World, str], JsonObject], check: Check | None
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        before = w.server.node.store.room(room_id)
        lpdu = make(w, room_id)
        answer = await w.foreign.send("1", lpdu)
        assert answer.status == 200
        after = w.server.node.store.room(room_id)
        assert before is not None
        assert after is not None
        if check is None:
            assert (after.head_seq, answer.body) == (before.head_seq + 1, {"failed_pdus": {}})
            return
        assert after.head_seq == before.head_seq
        rejected = OUTCOMES[check] is Outcome.REJECTED
        assert (event_id(lpdu, V1) in answer.body["failed_pdus"]) == rejected
        assert bool(answer.body["failed_pdus"]) == rejected


async def test_a_room_we_are_only_invited_to_takes_no_events(tmp_path: Path) -> None:
    async with hub_pair(tmp_path, public=False) as pair:
        await pair.a.node.rooms.invite(pair.room_id, sender=ALICE, target=BOB)
        outcome, _ = await delivered(pair, pair.event(type="m.room.topic", state_key="", content={}))
        assert outcome is OUTCOMES[Check.PARTICIPATING]
