"""A hub that changes what a participant said: the participant's server notices."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import trio
import trio.testing

from linearized.exceptions import InvalidInput
from linearized.protocol.build import build_lpdu, complete_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import parse_lpdu
from linearized.protocol.hashing import lpdu_hash
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import get_version
from linearized.room.submissions import LocalEvent
from tests.server.linearized_pair import BOB, HubPair, joined_pair


def lpdu(pair: HubPair, body: str = "I owe you 10") -> JsonObject:
    """What Bob's server sends."""
    return build_lpdu(
        identity=pair.b.node.identity,
        version=get_version("I.1"),
        room_id=pair.room_id,
        type="m.room.message",
        sender=BOB,
        content={"body": body},
        origin_server_ts=1,
        hub_server="a.example",
    )


def completed(pair: HubPair, said: JsonObject) -> JsonObject:
    """What the hub makes of it, signed as it should be."""
    last = pair.log(pair.a)[-1]
    version = get_version("I.1")
    event = complete_lpdu(
        VerifiedLpdu(lpdu=parse_lpdu(said, version), origin="b.example"),
        identity=pair.a.node.identity,
        version=version,
        auth_events=[
            entry.event_id
            for entry in pair.log(pair.a)
            if entry.type in {"m.room.create", "m.room.power_levels"} or entry.state_key == BOB
        ],
        prev_events=[last.event_id],
    )
    pdu: JsonObject = event.pdu
    return pdu


async def take(pair: HubPair, pdu: JsonObject) -> None:
    await pair.b.node.rooms.receive_pdu(pair.room_id, pdu, "a.example")


async def test_what_was_said_arrives_if_it_is_left_alone(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        await take(pair, completed(pair, lpdu(pair)))
        assert orjson.loads(pair.log(pair.b)[-1].pdu)["content"] == {"body": "I owe you 10"}


async def test_content_changed_under_the_old_hash_is_kept_without_content(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        altered = completed(pair, {**lpdu(pair), "content": {"body": "I owe you 1000"}})
        await take(pair, altered)
        kept = orjson.loads(pair.log(pair.b)[-1].pdu)
        assert kept["content"] == {}, "the content hash of the LPDU does not match: the event is redacted"
        assert kept["sender"] == BOB


async def test_content_changed_with_its_hash_is_refused_for_the_senders_signature(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        head = pair.row(pair.b).head_seq
        altered = {**lpdu(pair), "content": {"body": "I owe you 1000"}}
        altered["hashes"] = {"lpdu": {"sha256": lpdu_hash(altered, get_version("I.1"))}}
        with pytest.raises(InvalidInput, match="signature"):
            await take(pair, completed(pair, altered))
        assert pair.row(pair.b).head_seq == head


@pytest.mark.parametrize(
    "change",
    [
        {"sender": "@bill:b.example"},
        {"type": "org.example.other"},
        {"origin_server_ts": 2},
        {"state_key": ""},
        {"room_id": "!other:a.example"},
        {"hub_server": "c.example"},
        {"signatures": {}},
    ],
)
async def test_no_signed_field_can_be_changed(tmp_path: Path, change: JsonObject) -> None:
    async with joined_pair(tmp_path) as pair:
        head = pair.row(pair.b).head_seq
        said = lpdu(pair)
        altered = {**said, **change}
        altered["hashes"] = {"lpdu": {"sha256": lpdu_hash(altered, get_version("I.1"))}}
        if change != {"signatures": {}}:
            altered["signatures"] = said["signatures"]
        with pytest.raises(InvalidInput):
            await take(pair, completed(pair, altered))
        assert pair.row(pair.b).head_seq == head


async def test_an_event_without_its_senders_lpdu_hash_is_refused(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        pdu = completed(pair, lpdu(pair))
        del pdu["hashes"]["lpdu"]
        with pytest.raises(InvalidInput):
            await take(pair, pdu)


async def test_one_event_cannot_stand_in_two_places(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        said = lpdu(pair)
        await take(pair, completed(pair, said))
        first = pair.log(pair.b)
        await take(pair, completed(pair, said))
        assert pair.log(pair.b) == first, "the very same event is taken for received"
        twin = completed(pair, {**said})
        twin["prev_events"] = ["$elsewhere"]
        with pytest.raises(InvalidInput):
            await take(pair, twin)
        assert pair.log(pair.b) == first


async def test_a_hub_that_swallows_an_event_is_found_out_by_its_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linearized.server.echoes.ECHO_SECONDS", 0.2)
    async with joined_pair(tmp_path) as pair:

        async def swallow(*_arguments: object, **_more: object) -> list[str]:
            await trio.lowlevel.checkpoint()
            return ["$never"]

        monkeypatch.setattr("linearized.server.federation.lpdus.submit_all", swallow)
        event = LocalEvent(sender=BOB, type="m.room.message", content={"body": "Anybody?"})
        with pytest.raises(trio.TooSlowError):
            await pair.b.node.rooms.send(pair.room_id, event)
