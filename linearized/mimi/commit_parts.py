"""The parts of a commit or proposal a delivery service has to see before the MLS implementation judges it
(RFC 9420, 12.1 and 12.4).

Nothing here is verified; what is found is compared with what is verified later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.mls_framing import MESSAGE_HEADER, walk_credential, walk_key_package, walk_proposal
from linearized.mimi.tls import Reader

_SENDERS_WITH_INDEX: Final = frozenset({1, 2})  # member, external
_NEW_MEMBER_COMMIT: Final = 4
_PROPOSAL: Final = 2
_COMMIT: Final = 3
_BY_VALUE: Final = 1
_ADD: Final = 1
_APP_DATA_UPDATE: Final = 8
_UPDATE: Final = 1
_OPERATIONS: Final = frozenset({_UPDATE, 2})  # update, remove


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDataChange:
    """An AppDataUpdate proposal: its component, and the update; None if it removes the component."""

    component: int
    payload: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitParts:
    """``epoch``: the one the commit is made in.

    ``key_packages``: of the Add proposals by value, in order, without MLSMessage header.

    ``joiner``: the TLS-encoded Credential of the new leaf if this is an external commit, else None.

    ``steps``: the AppDataUpdate proposals by value and the ProposalRefs, in order.
    """

    epoch: int
    key_packages: tuple[bytes, ...]
    joiner: bytes | None
    steps: tuple[AppDataChange | bytes, ...]


def commit_parts(message: bytes) -> CommitParts:
    """Take a commit apart.

    Args:
        message: an MLSMessage(PublicMessage) with a commit, as ``HandshakeBundle.decode`` accepted it.

    Raises:
        MimiDecodeError: it is no commit, or an external one without a path.
    """
    reader = Reader(message)
    reader.skip(MESSAGE_HEADER)
    reader.skip_vectors(1)  # group_id
    epoch = reader.uint(8)
    sender = reader.uint(1)
    if sender in _SENDERS_WITH_INDEX:
        reader.skip(4)
    reader.skip_vectors(1)  # authenticated_data
    if reader.uint(1) != _COMMIT:
        raise MimiDecodeError("a commit was expected")
    key_packages, steps = _proposals(reader.sub())
    joiner = None
    if sender == _NEW_MEMBER_COMMIT:
        if reader.uint(1) != 1:
            raise MimiDecodeError("an external commit has a path")
        reader.skip_vectors(2)  # the leaf's encryption_key and signature_key
        start = reader.position
        walk_credential(reader)
        joiner = reader.since(start)
    return CommitParts(epoch=epoch, key_packages=key_packages, joiner=joiner, steps=steps)


def proposed_key_package(message: bytes) -> bytes | None:
    """The key package in an Add proposal, without MLSMessage header; None in any other proposal.

    Args:
        message: an MLSMessage(PublicMessage) with a proposal, as ``HandshakeBundle.decode`` accepted it.

    Raises:
        MimiDecodeError: it is no proposal.
    """
    reader = _at_proposal(message)
    if reader.uint(2) != _ADD:
        return None
    start = reader.position
    walk_key_package(reader)
    return reader.since(start)


def proposed_app_data(message: bytes) -> AppDataChange | None:
    """What an AppDataUpdate proposal changes; None of any other proposal. Arguments and errors as for
    ``proposed_key_package``.
    """
    reader = _at_proposal(message)
    return _app_data_change(reader) if reader.uint(2) == _APP_DATA_UPDATE else None


def leaf_credential(key_package: bytes) -> bytes:
    """The TLS-encoded Credential of the leaf in a key package that ``commit_parts`` found."""
    reader = Reader(key_package)
    reader.skip(4)  # version, cipher suite
    reader.skip_vectors(3)  # init_key, then the leaf's encryption_key and signature_key
    start = reader.position
    walk_credential(reader)
    return reader.since(start)


def leaf_signature_key(key_package: bytes) -> bytes:
    """The raw signature key of the leaf in such a key package."""
    reader = Reader(key_package)
    reader.skip(4)  # version, cipher suite
    reader.skip_vectors(2)  # init_key, the leaf's encryption_key
    return reader.vector()


def _at_proposal(message: bytes) -> Reader:
    """A reader at the type of a proposal."""
    reader = Reader(message)
    reader.skip(MESSAGE_HEADER)
    reader.skip_vectors(1)  # group_id
    reader.skip(8)  # epoch
    if reader.uint(1) in _SENDERS_WITH_INDEX:
        reader.skip(4)
    reader.skip_vectors(1)  # authenticated_data
    if reader.uint(1) != _PROPOSAL:
        raise MimiDecodeError("a proposal was expected")
    return reader


def _proposals(proposals: Reader) -> tuple[tuple[bytes, ...], tuple[AppDataChange | bytes, ...]]:
    """The key packages and the steps of a commit."""
    added: list[bytes] = []
    steps: list[AppDataChange | bytes] = []
    while proposals.remaining:
        if proposals.uint(1) != _BY_VALUE:
            steps.append(proposals.vector())
            continue
        start = proposals.position
        kind = proposals.uint(2)
        if kind == _ADD:
            start = proposals.position
            walk_key_package(proposals)
            added.append(proposals.since(start))
        elif kind == _APP_DATA_UPDATE:
            steps.append(_app_data_change(proposals))
        else:
            proposals.position = start
            walk_proposal(proposals)
    return tuple(added), tuple(steps)


def _app_data_change(reader: Reader) -> AppDataChange:
    """What is behind the type of an AppDataUpdate."""
    component, operation = reader.uint(2), reader.uint(1)
    if operation not in _OPERATIONS:
        raise MimiDecodeError(f"{operation} is not an AppDataUpdate operation")
    return AppDataChange(component=component, payload=reader.vector() if operation == _UPDATE else None)
