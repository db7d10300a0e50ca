"""The Merkle tree against the RFC's own definitions and published roots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import ProofError
from linearized.room.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_PATH,
    Frontier,
    consistency_proof,
    entry_leaf,
    inclusion_proof,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from linearized.room.tiles import TILE, Tiles

# Leaves and roots of the Certificate Transparency project's own tests of its Merkle tree (RFC 6962).
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "merkle" / "rfc6962.json").read_text())
SOME = 40


def mth(data: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962, 2.1 defines it, by recursion over the data."""
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = split(len(data))
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path_of(m: int, data: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]), RFC 6962, 2.1.1."""
    if len(data) == 1:
        return []
    k = split(len(data))
    if m < k:
        return [*path_of(m, data[:k]), mth(data[k:])]
    return [*path_of(m - k, data[k:]), mth(data[:k])]


def proof_of(m: int, data: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b), RFC 6962, 2.1.2."""
    if m == len(data):
        return [] if whole else [mth(data)]
    k = split(len(data))
    if m <= k:
        return [*proof_of(m, data[:k], whole=whole), mth(data[k:])]
    return [*proof_of(m - k, data[k:], whole=False), mth(data[:k])]


def log(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


class Whole:
    """Every node of a tree, straight from the definition."""

    def __init__(self, data: Sequence[bytes]) -> None:
        self._data = data

    def node(self, level: int, index: int) -> bytes:
        part = self._data[index << level : (index + 1) << level]
        assert len(part) == 1 << level
        return mth(part)


def frontier(data: Sequence[bytes]) -> Frontier:
    found = Frontier()
    for item in data:
        found.append(leaf_hash(item))
    return found


# --- roots ---


def test_the_published_roots_come_out() -> None:
    data = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
    roots = [bytes.fromhex(root) for root in VECTORS["roots"]]
    for size, root in enumerate(roots):
        assert mth(data[:size]) == frontier(data[:size]).root() == tree_root(size, Whole(data).node) == root


def test_the_published_proofs_come_out() -> None:
    data = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
    for case in VECTORS["inclusion"]:
        proof = inclusion_proof(case["index"], case["size"], Whole(data).node)
        assert [found.hex() for found in proof] == case["path"]
    for case in VECTORS["consistency"]:
        proof = consistency_proof(case["old"], case["new"], Whole(data).node)
        assert [found.hex() for found in proof] == case["path"]


@given(st.integers(0, 300))
def test_a_frontier_has_the_root_of_the_definition(size: int) -> None:
    data = log(size)
    assert frontier(data).root() == tree_root(size, Whole(data).node) == mth(data)


def test_an_entrys_leaf_is_its_event_id() -> None:
    assert entry_leaf("$abc") == hashlib.sha256(b"\x00$abc").digest()


# --- proofs ---


@given(st.data())
def test_proofs_are_those_of_the_definition_and_verify(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 200))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    leaves = log(size)
    tree = Whole(leaves)
    path = inclusion_proof(index, size, tree.node)
    assert path == path_of(index, leaves)
    before = verify_inclusion(leaf_hash(leaves[index]), index, size, path, mth(leaves))
    assert before.encode() == frontier(leaves[:index]).encode()
    steps = consistency_proof(old, size, tree.node)
    assert steps == proof_of(old, leaves)
    verify_consistency(old, mth(leaves[:old]), size, mth(leaves), steps)


def test_the_empty_tree_is_a_prefix_of_every_tree() -> None:
    assert consistency_proof(0, 5, Whole(log(5)).node) == []
    verify_consistency(0, EMPTY_ROOT, 5, mth(log(5)), [])


@given(st.data())
def test_a_proof_changed_anywhere_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, SOME))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size - 1))
    leaves = log(size)
    tree, root = Whole(leaves), mth(leaves)
    path = inclusion_proof(index, size, tree.node)
    steps = consistency_proof(old, size, tree.node)
    spoil = data.draw(st.sampled_from(["flip", "drop", "add", "empty"]))
    with pytest.raises(ProofError):
        verify_inclusion(leaf_hash(leaves[index]), index, size, spoilt(path, spoil, data), root)
    with pytest.raises(ProofError):
        verify_consistency(old, mth(leaves[:old]), size, root, spoilt(steps, spoil, data))


def spoilt(path: list[bytes], how: str, data: st.DataObject) -> list[bytes]:
    at = data.draw(st.integers(0, len(path) - 1))
    match how:
        case "flip":
            return [*path[:at], bytes(32), *path[at + 1 :]]
        case "drop":
            return [*path[:at], *path[at + 1 :]]
        case "add":
            return [*path[:at], bytes(32), *path[at:]]
    return []


@given(st.data())
def test_a_proof_holds_for_nothing_else(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, SOME))
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    leaves = log(size)
    tree, root = Whole(leaves), mth(leaves)
    path = inclusion_proof(index, size, tree.node)
    with pytest.raises(ProofError):
        verify_inclusion(leaf_hash(b"forged"), index, size, path, root)
    if other != index:
        with pytest.raises(ProofError):
            verify_inclusion(leaf_hash(leaves[index]), other, size, path, root)
    old = data.draw(st.integers(1, size - 1))
    rewritten = [b"forged", *leaves[1:]]
    with pytest.raises(ProofError):
        verify_consistency(old, mth(rewritten[:old]), size, root, consistency_proof(old, size, tree.node))
    with pytest.raises(ProofError):
        verify_consistency(
            old, mth(leaves[:old]), size, mth(rewritten), consistency_proof(old, size, tree.node)
        )


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0)])
def test_what_is_not_in_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="has no leaf"):
        inclusion_proof(index, size, Whole(log(5)).node)
    with pytest.raises(ProofError, match="has no leaf"):
        verify_inclusion(bytes(32), index, size, [], bytes(32))


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_a_larger_tree_is_no_prefix(old: int, new: int) -> None:
    with pytest.raises(ProofError, match="no prefix"):
        consistency_proof(old, new, Whole(log(6)).node)
    with pytest.raises(ProofError, match="no prefix"):
        verify_consistency(old, bytes(32), new, bytes(32), [])


@pytest.mark.parametrize(
    ("old", "old_root", "path"),
    [
        (5, bytes(32), []),  # another root for the same size
        (5, mth(log(5)), [bytes(32)]),  # a path where none is needed
        (0, bytes(32), []),  # an empty tree with a root of its own
        (3, mth(log(3)), []),  # no path where one is needed
    ],
)
def test_trees_that_need_no_path_or_one_are_held_to_it(old: int, old_root: bytes, path: list[bytes]) -> None:
    with pytest.raises(ProofError):
        verify_consistency(old, old_root, 5, mth(log(5)), path)


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ([bytes(32)] * (MAX_PATH + 1), f"at most {MAX_PATH} hashes"),
        ([bytes(32)] * MAX_PATH, "too long"),  # as many as a proof may have, but not this one
        ([bytes(31)], "32 bytes"),
        ([bytes(32), bytes(33)], "32 bytes"),
    ],
)
def test_a_path_has_a_bounded_number_of_hashes_of_32_bytes(path: list[bytes], match: str) -> None:
    with pytest.raises(ProofError, match=match):
        verify_inclusion(bytes(32), 0, 2, path, bytes(32))
    with pytest.raises(ProofError, match=match):
        verify_consistency(1, bytes(32), 2, bytes(32), path)


# --- frontiers ---


@given(st.integers(0, 100), st.integers(0, 20))
def test_a_frontier_goes_on_from_where_it_was_kept(size: int, more: int) -> None:
    kept = frontier(log(size))
    again = Frontier.decode(size, kept.encode())
    for item in log(size + more)[size:]:
        again.append(leaf_hash(item))
    assert again.root() == mth(log(size + more))


def test_a_copy_is_on_its_own() -> None:
    kept = frontier(log(3))
    kept.copy().append(bytes(32))
    assert (kept.size, kept.root()) == (3, mth(log(3)))


@pytest.mark.parametrize(("size", "data"), [(3, bytes(32)), (1, bytes(33)), (1, bytes(31)), (-1, bytes(32))])
def test_what_is_no_frontier_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ProofError):
        Frontier.decode(size, data)


# --- tiles ---


class Kept:
    """Tiles as a store has them: every complete one."""

    def __init__(self, size: int) -> None:
        self.reads: list[tuple[int, int]] = []
        row = [leaf_hash(item) for item in log(size)]
        self._levels = [row]
        while len(row) >= TILE:
            groups = [row[at : at + TILE] for at in range(0, len(row) - TILE + 1, TILE)]
            row = [root_of(group) for group in groups]
            self._levels.append(row)

    def read(self, level: int, tile: int) -> list[bytes]:
        self.reads.append((level, tile))
        row = self._levels[level] if level < len(self._levels) else []
        return row[tile * TILE : (tile + 1) * TILE]


def root_of(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700, 1024])
def test_tiles_give_the_same_proofs_as_the_whole_tree(size: int) -> None:
    leaves = log(size)
    root = mth(leaves)
    assert tree_root(size, Tiles(Kept(size).read).node) == root
    for index in {0, size // 3, size - 1}:
        path = inclusion_proof(index, size, Tiles(Kept(size).read).node)
        verify_inclusion(leaf_hash(leaves[index]), index, size, path, root)
        steps = consistency_proof(index + 1, size, Tiles(Kept(size).read).node)
        verify_consistency(index + 1, mth(leaves[: index + 1]), size, root, steps)


def test_a_proof_in_a_long_log_reads_a_handful_of_tiles() -> None:
    size = 70_000
    kept = Kept(size)
    inclusion_proof(33_333, size, Tiles(kept.read).node)
    assert len(kept.reads) == len(set(kept.reads)) <= 5


def test_a_tree_does_not_reach_further_than_its_log() -> None:
    with pytest.raises(ProofError):
        tree_root(300, Tiles(Kept(299).read).node)


def test_hashes_are_sha_256() -> None:
    assert len(EMPTY_ROOT) == HASH_BYTES
