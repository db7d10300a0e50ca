"""The Merkle tree over the log of a room we order: roots, proofs and checkpoints from what the store holds.

The tree is derived from the log, so an append writes nothing for it. Before a proof, tiles that the log has
filled since the last one are hashed and stored; a room from before there were trees gets all of them then.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from linearized.protocol.signing import ServerIdentity
from linearized.room.checkpoint import Checkpoint, sign_checkpoint
from linearized.room.merkle import complete_root, consistency_proof, entry_leaf, inclusion_proof, tree_root
from linearized.room.tiles import TILE, Tiles
from linearized.store.base import Store

# Tiles stored by one write: 16,384 entries' worth, so that the first proof of a long log costs few writes.
TILES_PER_WRITE: Final = 64


class Trees:
    """Proofs about the logs in a store. ``size`` is never more than the entries there are."""

    def __init__(self, store: Store, identity: ServerIdentity) -> None:
        self._store = store
        self._identity = identity

    async def checkpoint(self, room_id: str, size: int) -> Checkpoint:
        """Sign what the first ``size`` entries are."""
        tiles = await self._tiles(room_id, size)
        root = tree_root(size, tiles.node)
        return sign_checkpoint(self._identity, room_id, size=size, root=root)

    async def inclusion(self, room_id: str, seq: int, size: int) -> list[bytes]:
        """The audit path of entry ``seq`` in the tree of the first ``size`` entries.

        Raises:
            ProofError: ``seq`` is not among them.
        """
        tiles = await self._tiles(room_id, size)
        return inclusion_proof(seq - 1, size, tiles.node)

    async def consistency(self, room_id: str, old: int, new: int) -> list[bytes]:
        """The proof that the first ``old`` entries are the first of ``new``.

        Raises:
            ProofError: ``old`` is the larger.
        """
        tiles = await self._tiles(room_id, new)
        return consistency_proof(old, new, tiles.node)

    async def _tiles(self, room_id: str, size: int) -> Tiles:
        read = partial(self._read, room_id)
        level, hashes = 0, size
        while complete := hashes // TILE:
            known = self._store.tree_count(room_id, level + 1)
            for first in range(known, complete, TILES_PER_WRITE):
                roots: list[bytes] = []
                for tile in range(first, min(first + TILES_PER_WRITE, complete)):
                    roots.append(complete_root(read(level, tile)))
                    await trio.lowlevel.checkpoint()  # a tile takes half a millisecond
                await self._store.put_tree_hashes(room_id, level + 1, first, roots)
            level, hashes = level + 1, complete
        return Tiles(read)

    def _read(self, room_id: str, level: int, tile: int) -> list[bytes]:
        if level == 0:
            return [
                entry_leaf(event_id)
                for event_id in self._store.event_ids(room_id, after=tile * TILE, limit=TILE)
            ]
        return self._store.tree_hashes(room_id, level, first=tile * TILE, limit=TILE)
