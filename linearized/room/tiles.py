"""A Merkle tree kept as tiles: of 256 neighbouring hashes only the root over them is stored.

Level 0 of the tiles is the log itself (a leaf is the hash of an event ID), level 1 has one hash for every 256
entries, level 2 one for every 65,536, and so on: 0.13 bytes of hashes per entry, nothing to write with 255 of
256 appends, and a proof reads a few tiles, whatever the length of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from linearized.exceptions import ProofError
from linearized.room.merkle import complete_root

TILE_BITS: Final = 8
TILE: Final = 1 << TILE_BITS

ReadTile = Callable[[int, int], Sequence[bytes]]


class Tiles:
    """One tree for the length of a few proofs; each tile is read once.

    Args:
        read: gives the hashes of a tile by level and index, fewer than 256 for the last one of a level.
    """

    def __init__(self, read: ReadTile) -> None:
        self._read = read
        self._known: dict[tuple[int, int], Sequence[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree (see ``merkle``).

        Raises:
            ProofError: the tree does not reach that far.
        """
        tile_level, height = divmod(level, TILE_BITS)
        tile, start = divmod(index << height, TILE)
        hashes = self._tile(tile_level, tile)[start : start + (1 << height)]
        if len(hashes) != 1 << height:
            raise ProofError("the tree does not reach that far")
        return complete_root(hashes)

    def _tile(self, level: int, index: int) -> Sequence[bytes]:
        if (level, index) not in self._known:
            self._known[level, index] = self._read(level, index)
        return self._known[level, index]
