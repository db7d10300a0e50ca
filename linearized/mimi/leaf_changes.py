"""What handshakes do to the leaves of a group, as far as a provider without the group can tell (RFC 9420, 7.7
and 12.4.2): which leaves a commit or proposal blanks, and whose key packages it puts in.

Nothing here is verified: a follower takes its hub's word for what it fans out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.commit_parts import commit_parts
from linearized.mimi.mls_framing import (
    MESSAGE_HEADER,
    walk_credential,
    walk_key_package,
    walk_leaf_node,
    walk_proposal,
)
from linearized.mimi.tls import Reader

_MEMBER: Final = 1
_EXTERNAL: Final = 2
_PROPOSAL: Final = 2
_BY_VALUE: Final = 1
_ADD: Final = 1
_REMOVE: Final = 3
_SELF_REMOVE: Final = 0x000A
_LEAF_NODE: Final = 1
_PARENT_NODE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafChange:
    """What one proposal does: the leaf it blanks, or the key package it puts in; or neither."""

    removed: int | None = None
    added: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedChange:
    """A proposal sent by itself. ``external`` if its sender is one of the group's external senders."""

    epoch: int
    external: bool
    change: LeafChange


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedChanges:
    """A commit: what it does by value, and the ProposalRefs of the rest, each in order.

    ``joiner``: the TLS-encoded Credential of the new leaf of an external commit, else None.
    """

    epoch: int
    changes: tuple[LeafChange, ...]
    references: tuple[bytes, ...]
    joiner: bytes | None


def proposed_change(message: bytes) -> ProposedChange:
    """Read an MLSMessage(PublicMessage) with a proposal.

    Raises:
        MimiDecodeError: it is none.
    """
    reader, epoch, sender, leaf = _front(message)
    if reader.uint(1) != _PROPOSAL:
        raise MimiDecodeError("a proposal was expected")
    return ProposedChange(epoch=epoch, external=sender == _EXTERNAL, change=_change(reader, leaf))


def committed_changes(message: bytes) -> CommittedChanges:
    """Read an MLSMessage(PublicMessage) with a commit.

    Raises:
        MimiDecodeError: it is none.
    """
    parts = commit_parts(message)
    reader, _, _, _ = _front(message)
    reader.skip(1)  # content_type, which ``commit_parts`` has seen
    proposals = reader.sub()
    changes: list[LeafChange] = []
    references: list[bytes] = []
    while proposals.remaining:
        if proposals.uint(1) == _BY_VALUE:
            changes.append(_change(proposals, None))
        else:
            references.append(proposals.vector())
    return CommittedChanges(
        epoch=parts.epoch, changes=tuple(changes), references=tuple(references), joiner=parts.joiner
    )


def leaf_credentials(tree: bytes) -> dict[int, bytes]:
    """The TLS-encoded Credential of each leaf that is not blank, by leaf index.

    Args:
        tree: ``optional<Node> ratchet_tree<V>``, with its length.

    Raises:
        MimiDecodeError: it is malformed.
    """
    reader = Reader(tree)
    nodes = reader.sub()
    reader.finish()
    found: dict[int, bytes] = {}
    position = 0
    while nodes.remaining:
        kind = nodes.uint(1) and nodes.uint(1)
        # "The leaves of the tree are at even positions" (RFC 9420, Appendix C).
        if kind == _LEAF_NODE and position % 2 == 0:
            start = nodes.position
            walk_leaf_node(nodes)
            leaf = Reader(nodes.since(start))
            leaf.skip_vectors(2)  # encryption_key, signature_key
            begin = leaf.position
            walk_credential(leaf)
            found[position // 2] = leaf.since(begin)
        elif kind == _PARENT_NODE and position % 2:
            nodes.skip_vectors(3)  # encryption_key, parent_hash, unmerged_leaves
        elif kind:
            raise MimiDecodeError("a node of the tree is of another kind than its place")
        position += 1
    return found


def _front(message: bytes) -> tuple[Reader, int, int, int | None]:
    """A reader before the content type, the epoch, the sender's type and its index, if it has one."""
    reader = Reader(message)
    reader.skip(MESSAGE_HEADER)
    reader.skip_vectors(1)  # group_id
    epoch, sender = reader.uint(8), reader.uint(1)
    index = reader.uint(4) if sender in {_MEMBER, _EXTERNAL} else None
    reader.skip_vectors(1)  # authenticated_data
    return reader, epoch, sender, index if sender == _MEMBER else None


def _change(reader: Reader, sender_leaf: int | None) -> LeafChange:
    start = reader.position
    kind = reader.uint(2)
    if kind == _ADD:
        start = reader.position
        walk_key_package(reader)
        return LeafChange(added=reader.since(start))
    if kind == _REMOVE:
        return LeafChange(removed=reader.uint(4))
    reader.position = start
    walk_proposal(reader)
    return LeafChange(removed=sender_leaf) if kind == _SELF_REMOVE else LeafChange()
