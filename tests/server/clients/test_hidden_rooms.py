"""No answer tells whether a room that one may not see exists: every endpoint with a room in its path is asked
about one that is there and about one that is not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import openmls
import pytest

from linearized.mimi.group_info import GroupInfoCode, GroupInfoResponse
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.server.clients import PRIVATE, PUBLIC
from linearized.store.base import Role
from linearized.store.sqlite import SqliteStore
from tests.server.clients.mls_support import MlsDevice, exchange, use_real_time
from tests.server.clients.rows import append, entry
from tests.server.clients.support import ENCRYPTED_ROOM, MLS, V3, Client, Server, part

NOWHERE: Final = "!nowhere:a.example"
NO_EVENT: Final = "$" + "x" * 43
ROUTES: Final = [(method, pattern) for method, pattern, _ in (*PUBLIC, *PRIVATE) if "{room_id}" in pattern]

PARAMETERS: Final = {
    "event_type": "m.room.name",
    "state_key": "x",
    "txn_id": "t",
    "type": "m.tag",
    "tag": "u.x",
    "receipt_type": "m.read",
    "rel_type": "m.thread",
    "number": "0",
    "archive": "A" * 22,
    "code_id": "A" * 22,
}
BODIES: Final[dict[str, Any]] = {
    "invite": {"user_id": "@bob:a.example"},
    "kick": {"user_id": "@bob:a.example"},
    "ban": {"user_id": "@bob:a.example"},
    "unban": {"user_id": "@bob:a.example"},
    "{user_id}": {"typing": True},
    "{event_type}": {"name": "x"},
    "{state_key}": {"name": "x"},
    "update": {"bundle": encode_base64(b"x")},
    "key_material": {"request": encode_base64(b"x")},
    "group_info": {"request": encode_base64(b"x")},
    "import": {"events": []},
    "{room_id}": {"visibility": "public"},
    "{archive}": {"records": []},
}
QUERIES: Final[dict[str, dict[str, str]]] = {
    "timestamp_to_event": {"ts": "1", "dir": "f"},
    "messages": {"dir": "b"},
    "consistency": {"old": "1", "new": "2"},
    "inclusion": {"event_id": NO_EVENT, "size": "1"},
    "checkpoint": {"size": "1"},
}


async def answer(client: Client, method: str, pattern: str, room_id: str, event_id: str) -> tuple[Any, ...]:
    """Status and body for a room, with its names taken out."""
    path = pattern.replace("{room_id}", part(room_id)).replace("{event_id}", part(event_id))
    for name, value in {**PARAMETERS, "user_id": client.user_id}.items():
        path = path.replace(f"{{{name}}}", part(value))
    last = pattern.rpartition("/")[2]
    body = None if method == "GET" else BODIES.get(last, {})
    reply = await client.call(method, path, body, QUERIES.get(last))
    told = reply.body.decode().replace(room_id, "ROOM").replace(event_id, "EVENT")
    return reply.status, told


@pytest.fixture
async def eve(server: Server) -> Client:
    """Somebody who has to do with nobody here."""
    return await server.user("eve")


async def hidden(alice: Client, *, encrypted: bool) -> tuple[str, str]:
    """A private room, with a message in it if it may hold one, and an event of it."""
    wish: dict[str, Any] = (
        {"room_version": "dev.linearized.1", "creation_content": ENCRYPTED_ROOM} if encrypted else {}
    )
    room_id = await alice.create_room(**wish)
    state = (await alice.call("GET", f"/rooms/{part(room_id)}/state")).ok()
    return room_id, state[-1]["event_id"]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the store is asked, until it is cleared."""
    asked: list[str] = []
    real = SqliteStore._query

    def query(self: SqliteStore, sql: str, *parameters: object) -> Any:
        asked.append(sql)
        return real(self, sql, *parameters)

    monkeypatch.setattr(SqliteStore, "_query", query)
    return asked


async def differences(eve: Client, reads: list[str], there: str, event_id: str, nowhere: str) -> list[str]:
    """The endpoints whose answers, or the reads they take, tell one room from the other."""
    found = []
    for method, pattern in ROUTES:
        seen = []
        for room_id, event in ((there, event_id), (nowhere, NO_EVENT)):
            for _ in range(2):  # what the store keeps in memory is there the second time
                reads.clear()
                told = await answer(eve, method, pattern, room_id, event)
            seen.append((told, tuple(reads)))
        if seen[0] != seen[1]:
            found.append(f"{method} {pattern}: {seen}")
    return found


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_room_one_may_not_see_takes_the_reads_of_one_that_is_not_there(
    alice: Client, eve: Client, reads: list[str], encrypted: bool
) -> None:
    room_id, event_id = await hidden(alice, encrypted=encrypted)
    assert await differences(eve, reads, room_id, event_id, NOWHERE) == []


async def test_so_does_one_that_lets_in_who_is_in_another(
    alice: Client, eve: Client, reads: list[str]
) -> None:
    parent = await alice.create_room()
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": parent}]}
    state = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    room_id = await alice.create_room(initial_state=state)
    assert await differences(eve, reads, room_id, NO_EVENT, NOWHERE) == []


@pytest.mark.parametrize("role", list(Role))
async def test_that_there_is_a_copy_of_another_hubs_room_is_told_to_nobody_outside(
    server: Server, alice: Client, eve: Client, reads: list[str], role: Role
) -> None:
    there, nowhere = "!there:hub.example", "!nowhere:hub.example"
    people = {alice.user_id: "join", "@bob:b.example": "join"}
    await append(server.store, there, entry(there, 1), entry(there, 2), role=role, memberships=people)
    assert await differences(eve, reads, there, f"$1.{there}", nowhere) == []


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_room_one_may_not_see_is_as_one_that_is_not_there(
    alice: Client, eve: Client, encrypted: bool
) -> None:
    room_id, event_id = await hidden(alice, encrypted=encrypted)
    different = {
        f"{method} {pattern}": (there, nowhere)
        for method, pattern in ROUTES
        if (there := await answer(eve, method, pattern, room_id, event_id))
        != (nowhere := await answer(eve, method, pattern, NOWHERE, NO_EVENT))
    }
    assert not different, "\n".join(f"{name}: {pair}" for name, pair in different.items())


async def test_to_somebody_in_the_room_nearly_all_of_these_questions_have_another_answer(
    alice: Client, eve: Client
) -> None:
    """Else the test above would compare refusals of what is no question."""
    room_id, event_id = await hidden(alice, encrypted=False)
    asked = [(method, pattern) for method, pattern in ROUTES if not pattern.endswith(("/live", "/leave"))]
    same = {
        f"{method} {pattern}"
        for method, pattern in asked
        if await answer(alice, method, pattern, room_id, event_id)
        == await answer(eve, method, pattern, room_id, event_id)
    }
    assert same == {
        f"GET {V3}/directory/list/room/{{room_id}}",  # it is not published
        f"POST {MLS}/rooms/{{room_id}}/import",  # for bridges
        f"GET {MLS}/operator/rooms/{{room_id}}",  # for operators
    }


async def test_a_joining_code_of_no_room_is_as_one_that_is_wrong(
    server: Server, alice: Client, eve: Client
) -> None:
    use_real_time(server)
    room_id, _ = await hidden(alice, encrypted=True)
    (await MlsDevice(alice).create_group(room_id)).ok()
    device = MlsDevice(eve)
    request = device.group_info_request(openmls.HpkeKeyPair.generate(), code=b"guessed")
    answers = []
    for asked in (room_id, NOWHERE):
        response = (await exchange(eve, asked, "group_info", request)).ok()["response"]
        decoded = GroupInfoResponse.decode(decode_base64(response))
        answers.append(replace(decoded, room_id=""))
    assert answers[0] == answers[1]
    assert answers[0].status is GroupInfoCode.NOT_AUTHORIZED


async def test_an_external_commit_tells_of_no_room_to_who_was_not_let_in(
    server: Server, alice: Client, eve: Client
) -> None:
    """Not even to somebody who has the group's information from elsewhere."""
    use_real_time(server)
    room_id, _ = await hidden(alice, encrypted=True)
    hers = MlsDevice(alice)
    (await hers.create_group(room_id)).ok()
    group_info, tree = hers.joined().group_info()
    device = MlsDevice(eve)
    _, bundle = device.mls.join_external(group_info=group_info, ratchet_tree=tree)
    there, nowhere = [await device.update(asked, bundle) for asked in (room_id, NOWHERE)]
    there.refused(403, "M_FORBIDDEN")
    assert (there.status, there.body) == (nowhere.status, nowhere.body)
