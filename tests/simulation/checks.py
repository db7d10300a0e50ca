"""What has to be true of all copies of all rooms when everything has been delivered."""

from __future__ import annotations

from collections import Counter

import orjson

from linearized.protocol.canonical import canonical_json
from linearized.protocol.events import parse_pdu
from linearized.protocol.versions import get_version
from linearized.room.checkpoint import verify_checkpoint
from linearized.room.merkle import Frontier, entry_leaf
from linearized.store.base import EntryRow
from tests.simulation.world import VERSION, World

# More entries than a simulated day can have.
ALL = 1_000_000


def log(world: World, name: str, room_id: str) -> list[EntryRow]:
    """A server's whole copy of a room; its sequence numbers have no hole."""
    entries = world.server(name).node.store.entries(room_id, after=0, limit=ALL)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return entries


def chained(entries: list[EntryRow]) -> None:
    """Every entry is canonical JSON under its own hash, and follows the one before it."""
    for number, entry in enumerate(entries):
        pdu = orjson.loads(entry.pdu)
        assert canonical_json(pdu) == entry.pdu
        assert parse_pdu(pdu, get_version(VERSION)).event_id == entry.event_id
        assert pdu["prev_events"] == ([entries[number - 1].event_id] if number else [])


def same_from_the_join_on(world: World, name: str, room_id: str, *, whole: bool) -> None:
    """A participant's copy is the hub's log, entry by entry and byte by byte, from its first join on; before
    that it has the state of that moment, and nothing else. With ``whole`` that is the log's beginning.
    """
    ordered, copy = log(world, world.rooms[room_id], room_id), log(world, name, room_id)
    places = {entry.event_id: entry.seq for entry in ordered}
    joined = next(
        entry for entry in copy if entry.type == "m.room.member" and (entry.state_key or "").endswith(name)
        and orjson.loads(entry.pdu)["content"]["membership"] == "join"
    )  # fmt: skip
    shift = places[joined.event_id] - joined.seq
    assert [_same(entry, shift) for entry in copy[joined.seq - 1 :]] == [
        _same(entry, 0) for entry in ordered[joined.seq - 1 + shift :]
    ]
    store = world.server(world.rooms[room_id]).node.store
    state = store.state_at(room_id, seq=places[joined.event_id] - 1)
    assert {entry.event_id: entry.pdu for entry in copy[: joined.seq - 1]} == {
        entry.event_id: entry.pdu for entry in state
    }
    if whole:
        assert copy == ordered


def _same(entry: EntryRow, shift: int) -> tuple[int, str, str, str | None, str, int, bytes]:
    return (
        entry.seq + shift,
        entry.event_id,
        entry.type,
        entry.state_key,
        entry.sender,
        entry.origin_server_ts,
        entry.pdu,
    )


def same_state(world: World, name: str, room_id: str) -> None:
    """A participant and the hub agree on the state and on who is what in the room."""
    copies = [world.server(server).node for server in (world.rooms[room_id], name)]
    first, second = (
        {key: event.event_id for key, event in node.rooms.state(room_id).items()} for node in copies
    )
    assert first == second
    hub, participant = (
        {row.user_id: row.membership for row in node.store.memberships(room_id)} for node in copies
    )
    assert hub == participant


async def verified(world: World, name: str, room_id: str, *, whole: bool) -> None:
    """A participant's copy leads to the root that the hub signs: by its own audit, and counted again here."""
    node, hub = world.server(name).node, world.server(world.rooms[room_id]).node
    assert await node.audits.audit(room_id) is None
    held = node.store.audit(room_id)
    assert held is not None
    checkpoint = verify_checkpoint(
        held.checkpoint,
        hub=hub.identity.name,
        room_id=room_id,
        keys={held.key_id: hub.identity.key.verify_key},
    )
    copy, ordered = log(world, name, room_id), log(world, hub.identity.name, room_id)
    assert checkpoint.size == held.size == len(ordered)
    tree = Frontier.decode(held.anchor_size, held.anchor_frontier)
    for entry in copy[held.anchor_seq :]:
        tree.append(entry_leaf(entry.event_id))
    assert (tree.size, tree.root()) == (checkpoint.size, checkpoint.root)
    if whole:
        tree = Frontier()
        for entry in copy:
            tree.append(entry_leaf(entry.event_id))
        assert (tree.size, tree.root()) == (checkpoint.size, checkpoint.root)


def nothing_lost_or_repeated(world: World) -> None:
    """Everything whose sender was given an event ID is there once, under that ID; what was refused is not
    there; what got no answer is there once or not at all.
    """
    found: Counter[str] = Counter()
    places: dict[str, str] = {}
    for room_id, hub in world.rooms.items():
        for entry in log(world, hub, room_id):
            if entry.type == "m.room.message":
                body = orjson.loads(entry.pdu)["content"]["body"]
                found[body] += 1
                places[body] = entry.event_id
    ledger = world.ledger
    assert {body: places.get(body) for body in ledger.sent} == ledger.sent
    assert set(found.values()) <= {1}
    assert not ledger.refused & found.keys()
    assert found.keys() <= ledger.sent.keys() | ledger.unanswered


async def everybody_agrees(world: World, *, whole: dict[str, list[str]]) -> None:
    """All of the above, for every room and everybody who takes part in it.

    Args:
        whole: by room ID, the participants that joined before anything else had happened.
    """
    nothing_lost_or_repeated(world)
    for room_id, hub in world.rooms.items():
        chained(log(world, hub, room_id))
        for name in world.participants(room_id):
            complete = name in whole.get(room_id, [])
            same_from_the_join_on(world, name, room_id, whole=complete)
            same_state(world, name, room_id)
            await verified(world, name, room_id, whole=complete)
    for life in world.lives.values():
        assert life.server is not None
        findings = life.server.node.store.findings()
        assert [(found.proven, found.reason, found.document) for found in findings] == []
