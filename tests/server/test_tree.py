"""Trees over logs in a store: built from what is there, tile by tile, and once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from linearized.exceptions import ProofError
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.room import tiles
from linearized.room.checkpoint import verify_checkpoint
from linearized.room.merkle import Frontier, entry_leaf, verify_consistency, verify_inclusion
from linearized.server import tree
from linearized.server.tree import Trees
from linearized.store.base import RoomAppend
from linearized.store.sqlite import SqliteStore
from tests.store.rows import ROOM, entry, event_id, new_room

IDENTITY = ServerIdentity("a.example", SigningKey.generate("a", bytes(32)))
KEYS = {IDENTITY.key.key_id: IDENTITY.key.verify_key}


@pytest.fixture
async def store(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF", in_thread=False)
    await nursery.start(store.run)
    yield store
    await store.aclose()


def root(size: int) -> bytes:
    frontier = Frontier()
    for seq in range(1, size + 1):
        frontier.append(entry_leaf(event_id(ROOM, seq)))
    return frontier.root()


async def fill(store: SqliteStore, first: int, last: int) -> None:
    await store.append(
        replace(
            new_room() if first == 1 else RoomAppend(room_id=ROOM),
            entries=tuple(entry(seq) for seq in range(first, last + 1)),
        )
    )


@pytest.mark.parametrize("size", [0, 1, 255, 256, 700])
async def test_a_checkpoint_is_of_the_log_as_the_rfc_defines_it(store: SqliteStore, size: int) -> None:
    await fill(store, 1, 700)
    signed = await Trees(store, IDENTITY).checkpoint(ROOM, size)
    assert verify_checkpoint(signed.note, hub="a.example", room_id=ROOM, keys=KEYS) == signed
    assert (signed.size, signed.root) == (size, root(size))


async def test_proofs_of_a_log_that_grows_hold_and_tiles_are_hashed_once(store: SqliteStore) -> None:
    trees = Trees(store, IDENTITY)
    head = 0
    for size in (1, 300, 512, 800):
        await fill(store, head + 1, size)
        path = await trees.consistency(ROOM, head, size)
        verify_consistency(head, root(head), size, root(size), path)
        for seq in {1, size // 2 + 1, size}:
            verify_inclusion(
                entry_leaf(event_id(ROOM, seq)), seq - 1, size,
                await trees.inclusion(ROOM, seq, size), root(size),
            )  # fmt: skip
        assert store.tree_count(ROOM, 1) == size // 256
        head = size
    before = store.writes
    await trees.checkpoint(ROOM, 800)
    assert store.writes == before


async def test_a_log_from_before_there_were_trees_is_hashed_in_few_writes_with_all_its_levels(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A log of 65,536 entries is long to make: a smaller tile shows the same.
    monkeypatch.setattr(tree, "TILE", 4)
    monkeypatch.setattr(tiles, "TILE", 4)
    monkeypatch.setattr(tiles, "TILE_BITS", 2)
    await fill(store, 1, 600)
    before = store.writes
    signed = await Trees(store, IDENTITY).checkpoint(ROOM, 600)
    assert signed.root == root(600)
    assert [store.tree_count(ROOM, level) for level in range(1, 6)] == [150, 37, 9, 2, 0]
    assert store.writes - before == 3 + 1 + 1 + 1


async def test_what_lies_past_the_log_has_no_proof(store: SqliteStore) -> None:
    await fill(store, 1, 5)
    trees = Trees(store, IDENTITY)
    with pytest.raises(ProofError):
        await trees.inclusion(ROOM, 6, 5)
    with pytest.raises(ProofError):
        await trees.consistency(ROOM, 6, 5)
    with pytest.raises(ProofError):
        await trees.checkpoint(ROOM, 6)


def test_the_leaf_is_the_event_id() -> None:
    identifier = event_id(ROOM, 1)
    assert entry_leaf(identifier) == hashlib.sha256(b"\x00" + identifier.encode()).digest()
