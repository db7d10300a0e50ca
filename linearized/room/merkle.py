"""The Merkle tree over a room's log: roots, inclusion and consistency proofs (RFC 6962, 2.1; RFC 9162, 2.1).

A leaf is the event ID of an entry, as ASCII; its index is the hub's ``seq`` less one. The event ID is itself
a SHA-256 over the redacted event without its signatures, so it binds content (by the hash in it), room and
predecessor, and whoever was given an event only in its redacted form can check it all the same. See
docs/decisions/0010-verifiable-log.md.

Hashes are 32 bytes. A tree is looked at through ``node(level, index)``: the hash of the complete subtree over
leaves ``index << level`` to ``(index + 1) << level``, exclusive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

from linearized.exceptions import ProofError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
MAX_PATH: Final = 64
"""Hashes in a proof: a log's sequence numbers have 32 bits, and a consistency proof has one hash more."""

Node = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962, 2.1: "MTH({d(0)}) = SHA-256(0x00 || d(0))"."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, 2.1: "SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))"."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def entry_leaf(event_id: str) -> bytes:
    """The leaf hash of a log entry."""
    return leaf_hash(event_id.encode("ascii"))


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring complete subtrees, each smaller than the one to its left."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of hashes of one level."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


class Frontier:
    """A tree as little as appending needs: the roots of its largest complete subtrees, left to right, one for
    each bit set in its size.

    Raises:
        ProofError: the hashes are not as many as that, or not 32 bytes each.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._hashes = list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count():
            raise ProofError(f"a tree of {size} leaves has another number of subtrees")
        _check_hashes(self._hashes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> Self:
        """From what ``encode`` gave; raises as the constructor."""
        return cls(size, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])

    def encode(self) -> bytes:
        """The hashes one after another."""
        return b"".join(self._hashes)

    def copy(self) -> Frontier:
        """One that can be extended on its own."""
        return Frontier(self.size, self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash; amortised two hashes of work."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._hashes.pop(), leaf)
            size >>= 1
        self._hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root."""
        return fold(self._hashes) if self._hashes else EMPTY_ROOT


def subtree_root(begin: int, end: int, node: Node) -> bytes:
    """The root over leaves ``begin`` to ``end``, exclusive; ``begin`` is a multiple of a power of two that is
    no smaller than the range, and the range is not empty.
    """
    parts: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        parts.append(node(level, begin >> level))
        begin += 1 << level
    return fold(parts)


def tree_root(size: int, node: Node) -> bytes:
    """The root of the first ``size`` leaves."""
    return subtree_root(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf ``index`` (from 0) in the tree of ``size`` leaves (RFC 6962, 2.1.1).

    Raises:
        ProofError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    begin, end = 0, size
    path: list[bytes] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(subtree_root(middle, end, node))
            end = middle
        else:
            path.append(subtree_root(begin, middle, node))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """The proof that the tree of ``old`` leaves is a prefix of that of ``new`` (RFC 6962, 2.1.2).

    Raises:
        ProofError: ``old`` is the larger.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {old} leaves is no prefix of one of {new}")
    if old == 0:
        return []  # the empty tree is a prefix of every tree; the RFC defines proofs for 0 < m
    begin, end = 0, new
    path: list[bytes] = []
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(subtree_root(middle, end, node))
            end = middle
        else:
            path.append(subtree_root(begin, middle, node))
            begin = middle
    if begin:
        path.append(subtree_root(begin, end, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> Frontier:
    """Check an audit path (RFC 9162, 2.1.3.2).

    Args:
        leaf: the leaf's hash.

    Returns:
        The tree before that leaf: the path holds all of its frontier.

    Raises:
        ProofError: it does not show that the leaf is at ``index`` in the tree with this root.
    """
    _check_path(path)
    # 1. "Compare leaf_index from the inclusion_proof_v2 structure against tree_size. If leaf_index is greater
    # than or equal to tree_size, then stop verifying and fail the proof verification."
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    at, last = index, size - 1
    result = leaf
    left: list[bytes] = []
    for sibling in path:
        # 4.1. "If sn is 0, then stop the iteration and fail the proof verification."
        if last == 0:
            raise ProofError("the path is too long")
        if at & 1 or at == last:
            left.append(sibling)
            result = node_hash(sibling, result)
            while not at & 1:
                at, last = at >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or result != root:
        raise ProofError("the path does not lead to the root")
    return Frontier(index, left[::-1])


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that a tree is a prefix of another (RFC 9162, 2.1.4.2).

    Raises:
        ProofError: the path does not show it.
    """
    _check_path(path)
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {old} leaves is no prefix of one of {new}")
    if old in {0, new}:
        if path or old_root != (new_root if old else EMPTY_ROOT):
            raise ProofError("the trees differ, or the path should be empty")
        return
    hashes = list(path)
    # 2. "If first is an exact power of 2, then prepend first_hash to the consistency_path array."
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    # 1. "If consistency_path is an empty array, stop and fail the proof verification."
    if not hashes:
        raise ProofError("the path is empty")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("the path is too long")
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or first != old_root or second != new_root:
        raise ProofError("the path does not lead from the one root to the other")


def _split(size: int) -> int:
    """The largest power of two smaller than ``size``, which is at least two."""
    return 1 << ((size - 1).bit_length() - 1)


def _check_path(path: Sequence[bytes]) -> None:
    if len(path) > MAX_PATH:
        raise ProofError(f"a proof has at most {MAX_PATH} hashes")
    _check_hashes(path)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(found) != HASH_BYTES for found in hashes):
        raise ProofError(f"a hash has {HASH_BYTES} bytes")
