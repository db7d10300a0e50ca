"""Message archives: in order, of one account, bounded."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.server.buckets import BURST_SECONDS
from linearized.server.clients import archives as module
from linearized.server.clients.archives import MAX_PAGE, MAX_SEALED_BYTES
from tests.server.clients.support import MLS, Answer, Client, Server, part, room

NAME = encode_base64url(bytes(16))
OTHER = encode_base64url(bytes(15) + b"\x01")
PROOF = encode_base64(bytes(32))


def tag(number: int) -> str:
    return encode_base64(bytes([number]) * 16)


class Diary:
    """A room with messages, and the records of them."""

    def __init__(self, client: Client, room_id: str, events: list[dict[str, Any]]) -> None:
        self.client, self.room_id, self.events = client, room_id, events
        self.path = f"{room(room_id, MLS)}/archives/{NAME}"

    def record(self, number: int, /, **changes: Any) -> dict[str, Any]:
        event = self.events[number - 1]
        return {
            "number": number,
            "seq": event["unsigned"]["dev.linearized.seq"],
            "event_id": event["event_id"],
            "tag": tag(number),
            "stub": PROOF,
            "sealed": encode_base64(b"content"),
            **changes,
        }

    async def put(self, *records: dict[str, Any], client: Client | None = None) -> Answer:
        return await (client or self.client).call("POST", self.path, {"records": list(records)})

    async def numbers(self, **query: Any) -> list[int]:
        answer = (await self.client.call("GET", self.path, query=query)).ok()
        return [record["number"] for record in answer["records"]]


@pytest.fixture
async def diary(alice: Client) -> Diary:
    room_id = await alice.create_room()
    for number in range(3):
        (await alice.send(room_id, f"message {number}", str(number))).ok()
    timeline = (await alice.sync())["rooms"]["join"][room_id]["timeline"]["events"]
    return Diary(alice, room_id, [event for event in timeline if event["type"] == "m.room.message"])


async def test_what_was_kept_is_told_in_order(alice: Client, diary: Diary) -> None:
    (await diary.put(diary.record(1), diary.record(2))).ok()
    (await diary.put(diary.record(2, sealed=encode_base64(b"other")), diary.record(3))).ok()
    answer = (await alice.call("GET", diary.path)).ok()
    assert answer == {"records": [diary.record(1), diary.record(2), diary.record(3)]}
    assert await diary.numbers(after=1, limit=1) == [2]
    listed = (await alice.call("GET", f"{MLS}/archives")).ok()["archives"]
    assert listed == [{"archive": NAME, "room_id": diary.room_id, "records": 3, "bytes": 21}]


async def test_another_user_sees_and_changes_nothing(bob: Client, alice: Client, diary: Diary) -> None:
    (await diary.put(diary.record(1))).ok()
    (await diary.put(diary.record(2), client=bob)).refused(403, "M_FORBIDDEN")
    (await bob.call("GET", diary.path)).refused(403, "M_FORBIDDEN")
    (await alice.call("POST", f"{room(diary.room_id)}/invite", {"user_id": bob.user_id})).ok()
    (await bob.call("POST", f"/join/{part(diary.room_id)}", {})).ok()
    assert (await bob.call("GET", diary.path)).ok() == {"records": []}
    assert (await bob.call("GET", f"{MLS}/archives")).ok() == {"archives": []}
    (await bob.call("DELETE", f"{MLS}/archives")).ok()
    (await bob.call("DELETE", f"{MLS}/archives/{NAME}")).ok()
    releases = {"releases": [{"tag": tag(1), "release": PROOF}]}
    answer = await bob.call("POST", f"{MLS}/archives/{NAME}/release", releases)
    assert answer.ok() == {"released": 0}
    assert await diary.numbers() == [1]


async def test_a_record_of_an_event_that_is_elsewhere_is_refused(alice: Client, diary: Diary) -> None:
    (await diary.put(diary.record(1, seq=1))).refused(404, "M_NOT_FOUND")
    (await diary.put(diary.record(1, event_id="$nothing"))).refused(404, "M_NOT_FOUND")
    other = Diary(alice, await alice.create_room(), diary.events)
    (await other.put(other.record(1))).refused(404, "M_NOT_FOUND")
    assert await diary.numbers() == []


async def test_records_come_without_gaps(diary: Diary) -> None:
    (await diary.put(diary.record(2))).refused(409, "M_CONFLICT")
    (await diary.put(diary.record(1), diary.record(3))).refused(400, "M_INVALID_PARAM")
    assert await diary.numbers() == []


@pytest.mark.parametrize(
    ("change", "status", "errcode"),
    [
        ({"sealed": encode_base64(bytes(MAX_SEALED_BYTES + 1))}, 413, "M_TOO_LARGE"),
        ({"sealed": "???"}, 400, "M_INVALID_PARAM"),
        ({"tag": encode_base64(bytes(15))}, 400, "M_BAD_JSON"),
        ({"stub": encode_base64(bytes(33))}, 400, "M_BAD_JSON"),
        ({"number": 0}, 400, "M_BAD_JSON"),
        ({"expires_ts": -1}, 400, "M_BAD_JSON"),
        ({"expires_ts": "soon"}, 400, "M_BAD_JSON"),
    ],
)
async def test_a_malformed_record_is_refused(
    diary: Diary, change: dict[str, Any], status: int, errcode: str
) -> None:
    (await diary.put(diary.record(1, **change))).refused(status, errcode)
    assert await diary.numbers() == []


async def test_too_much_at_once_is_refused(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [diary.record(1)] * (MAX_PAGE + 1)
    (await diary.put(*many)).refused(400, "M_INVALID_PARAM")
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 13)
    (await diary.put(diary.record(1), diary.record(2))).refused(413, "M_TOO_LARGE")
    assert await diary.numbers() == []
    (await diary.put(diary.record(1))).ok()
    (await diary.put(diary.record(2))).ok()
    assert await diary.numbers() == [1]
    assert await diary.numbers(after=1) == [2]


@pytest.mark.parametrize(("name", "most"), [("MAX_RECORDS", 1), ("MAX_BYTES", 13)])
async def test_an_account_has_so_much_and_no_more(
    diary: Diary, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(module, name, most)
    (await diary.put(diary.record(1))).ok()
    (await diary.put(diary.record(2))).refused(400, "M_LIMIT_EXCEEDED")
    assert await diary.numbers() == [1]


async def test_what_has_expired_is_not_told(server: Server, alice: Client, diary: Diary) -> None:
    expires = server.clock.now + 1000
    (await diary.put(diary.record(1, expires_ts=expires))).ok()
    assert (await alice.call("GET", diary.path)).ok()["records"] == [diary.record(1, expires_ts=expires)]
    server.clock.now = expires
    gone = diary.record(1, expires_ts=expires)
    del gone["sealed"]
    assert (await alice.call("GET", diary.path)).ok()["records"] == [gone]


async def test_what_is_released_is_gone(alice: Client, diary: Diary) -> None:
    (await diary.put(diary.record(1), diary.record(2))).ok()
    path = f"{MLS}/archives/{NAME}/release"
    answer = await alice.call("POST", path, {"releases": [{"tag": tag(1), "release": PROOF}]})
    assert answer.ok() == {"released": 1}
    released = {**diary.record(1), "release": PROOF}
    del released["sealed"]
    assert (await alice.call("GET", diary.path)).ok()["records"] == [released, diary.record(2)]
    (await alice.call("POST", path, {"releases": [{"tag": tag(1), "release": ""}]})).refused(
        400, "M_BAD_JSON"
    )


async def test_an_archive_is_removed_or_all_are(
    alice: Client, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMOVED_AT_ONCE", 1)
    (await diary.put(diary.record(1), diary.record(2))).ok()
    (await alice.call("DELETE", f"{MLS}/archives/{OTHER}")).ok()
    assert await diary.numbers() == [1, 2]
    (await alice.call("DELETE", f"{MLS}/archives/{NAME}")).ok()
    assert await diary.numbers() == []
    (await diary.put(diary.record(1), diary.record(2))).ok()
    (await alice.call("DELETE", f"{MLS}/archives")).ok()
    assert (await alice.call("GET", f"{MLS}/archives")).ok() == {"archives": []}


@pytest.mark.parametrize("name", ["short", "x" * 23, "?" * 22])
async def test_a_name_has_sixteen_bytes(alice: Client, diary: Diary, name: str) -> None:
    path = f"{room(diary.room_id, MLS)}/archives/{part(name)}"
    (await alice.call("GET", path)).refused(400, "M_INVALID_PARAM")
    (await alice.call("POST", path, {"records": []})).refused(400, "M_INVALID_PARAM")
    (await alice.call("DELETE", f"{MLS}/archives/{part(name)}")).refused(400, "M_INVALID_PARAM")


async def test_only_an_account_has_archives(server: Server, diary: Diary) -> None:
    bridge = server.bridge("@carol:matrix.example", "DEV")
    (await bridge.call("GET", f"{MLS}/archives")).refused(403, "M_FORBIDDEN")
    (await bridge.call("GET", diary.path)).refused(403, "M_FORBIDDEN")
    (await diary.put(diary.record(1), client=bridge)).refused(403, "M_FORBIDDEN")
    (await bridge.call("DELETE", f"{MLS}/archives")).refused(403, "M_FORBIDDEN")
    releases: dict[str, Any] = {"releases": []}
    (await bridge.call("POST", f"{MLS}/archives/{NAME}/release", releases)).refused(403, "M_FORBIDDEN")


async def test_requests_count_against_the_accounts_rate(server: Server, diary: Diary) -> None:
    burst = server.node.config.limits.account_rate * BURST_SECONDS
    for _ in range(burst):
        server.node.limits.account.take(diary.client.user_id)
        if (answer := await diary.put(diary.record(1))).status != 200:
            break
    answer.refused(429, "M_LIMIT_EXCEEDED")
