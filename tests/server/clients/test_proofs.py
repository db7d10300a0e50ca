"""Checkpoints and proofs for clients."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.protocol.base64 import decode_base64
from linearized.room.checkpoint import verify_checkpoint
from linearized.room.merkle import entry_leaf, verify_consistency, verify_inclusion
from linearized.store.base import MembershipRow, Role, RoomAppend, RoomRow
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import MLS, Answer, Client, Server, room

KINDS = ("checkpoint", "proof/consistency", "proof/inclusion")


async def ask(client: Client, room_id: str, what: str, **query: Any) -> Answer:
    return await client.call("GET", f"{room(room_id, MLS)}/{what}", query=query)


def hashes(body: Any) -> list[bytes]:
    return [decode_base64(found) for found in body["hashes"]]


async def test_a_member_gets_what_proves_the_log(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    (await alice.send(room_id, "hello", "t")).ok()
    key = server.node.identity.key
    sizes = {}
    for size in (2, None):
        which = {} if size is None else {"size": size}
        body = (await ask(alice, room_id, "checkpoint", **which)).ok()
        sizes[size] = verify_checkpoint(
            body["checkpoint"], hub="a.example", room_id=room_id, keys={body["key_id"]: key.verify_key}
        )
    old, new = sizes[2], sizes[None]
    path = hashes((await ask(alice, room_id, "proof/consistency", **{"from": 2, "to": new.size})).ok())
    verify_consistency(2, old.root, new.size, new.root, path)
    last = server.store.entries(room_id, after=new.size - 1, limit=1)[0]
    named: list[dict[str, Any]] = [{"event_id": last.event_id}, {"seq": last.seq, "size": new.size}]
    for query in named:
        body = (await ask(alice, room_id, "proof/inclusion", **query)).ok()
        verify_inclusion(entry_leaf(last.event_id), last.seq - 1, new.size, hashes(body), new.root)


async def test_only_joined_users_get_any(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    for kind in KINDS:
        (await ask(bob, room_id, kind)).refused(403, "M_FORBIDDEN")


async def test_an_event_the_caller_may_not_read_is_not_there(server: Server, bob: Client) -> None:
    await append(
        server.store,
        "!r:a",
        visibility("!r:a", 1, "joined"),
        entry("!r:a", 2),
        member("!r:a", 3, bob.user_id, "join"),
    )
    (await ask(bob, "!r:a", "proof/inclusion", seq=2)).refused(404, "M_NOT_FOUND")
    (await ask(bob, "!r:a", "proof/inclusion", seq=3)).ok()
    (await ask(bob, "!r:a", "proof/inclusion", seq=4)).refused(404, "M_NOT_FOUND")


@pytest.mark.parametrize("query", [{}, {"from": 1}, {"to": 1}])
async def test_both_ends_of_a_consistency_proof_are_asked_for(alice: Client, query: dict[str, int]) -> None:
    room_id = await alice.create_room()
    (await ask(alice, room_id, "proof/consistency", **query)).refused(400, "M_MISSING_PARAM")


@pytest.mark.parametrize("role", [Role.PARTICIPANT, Role.FOLLOWER])
async def test_another_hubs_answers_are_passed_on(
    server: Server, alice: Client, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = RoomRow(room_id="!r:b.example", version="I.1", role=role, hub="b.example", head_seq=0, epoch=None)
    joined = MembershipRow(room_id=row.room_id, user_id=alice.user_id, membership="join", seq=0)
    await server.store.append(RoomAppend(room_id=row.room_id, room=row, memberships=(joined,)))
    asked: list[tuple[str, ...]] = []
    answers = {
        "checkpoint": {"checkpoint": "text", "key_id": "ed25519:b"},
        "proof/consistency": {"from": 1, "to": 2, "hashes": []},
        "proof/inclusion": {"event_id": "$x", "seq": 1, "size": 2, "hashes": []},
    }

    class Federation:
        async def request(self, *request: str) -> Any:
            asked.append(request)
            return next(body for kind, body in answers.items() if kind in request[2])

    monkeypatch.setattr(server.node, "federation", Federation())
    for kind, body in answers.items():
        answer = await ask(alice, row.room_id, kind, **{"from": 1, "to": 2, "seq": "1", "more": "x"})
        if role is Role.FOLLOWER:
            answer.refused(404, "M_NOT_FOUND")
        else:
            assert answer.ok() == body
            query = "from=1&seq=1&to=2"
            path = f"/_linearized/v1/rooms/%21r%3Ab.example/{kind}?{query}"
            assert asked.pop() == ("b.example", "GET", path)
    assert not asked
