"""What the room uses of MLS: the binding's value types, its errors, and the few entry points as a Protocol.

The room is handed an ``Mls``; it never calls the binding's module functions itself, so that the clock a
lifetime is checked with comes from outside like every other time. All ``bytes`` are TLS-encoded. Every method
of the types below raises ``MlsError`` (or a subclass) and changes nothing on failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from openmls import AppDataUpdate, Member, MessageInfo, MlsError, PublicGroup, StagedCommit, WrongEpoch

__all__ = [
    "AppDataUpdate",
    "Member",
    "MessageInfo",
    "Mls",
    "MlsError",
    "PublicGroup",
    "StagedCommit",
    "WrongEpoch",
]


class Mls(Protocol):
    """The implementation as the room sees it."""

    def inspect_message(self, data: bytes) -> MessageInfo:
        """Parse the outside of an MLSMessage strictly."""
        ...

    def welcome_references(self, welcome: bytes) -> Sequence[bytes]:
        """The KeyPackageRefs a Welcome (MLSMessage or bare) is for."""
        ...

    def observe(self, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """Start tracking a group from a signed GroupInfo and its tree, both verified."""
        ...

    def load(self, snapshot: bytes, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """Continue from a snapshot, or from GroupInfo and tree if another version wrote it."""
        ...
