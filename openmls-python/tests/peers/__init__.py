"""Members of other MLS implementations, behind the same few methods; everything crosses over as bytes."""

from dataclasses import dataclass
from typing import Protocol

EXPORTED = ("interop", b"context", 32)  # label, context and length of the secret that all compare


class RefusedByPeerError(Exception):
    """The other implementation did not take what it was given."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A commit of a peer: MLSMessages, and the tree of the new epoch where it is not in the Welcome."""

    commit: bytes
    welcome: bytes | None
    tree: bytes | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What a peer made of a message: ``plaintext`` of an application message; ``removed`` by a commit."""

    plaintext: bytes | None = None
    removed: bool = False


class Peer(Protocol):
    """A member of at most one group; ``name`` is its identity. Messages are MLSMessages.

    A commit is pending until `merge`. Members to remove are given by name and by leaf, for implementations
    know them by one or the other. All methods raise RefusedByPeerError.
    """

    name: str

    def key_package(self) -> bytes: ...
    def create_group(self, group_id: bytes) -> None: ...
    def join(self, welcome: bytes, tree: bytes | None) -> None: ...
    def commit(self) -> Sent: ...
    def add(self, *key_packages: bytes) -> Sent: ...
    def remove(self, name: str, leaf: int) -> Sent: ...
    def propose_add(self, key_package: bytes) -> bytes: ...
    def propose_remove(self, name: str, leaf: int) -> bytes: ...
    def merge(self, commit: bytes) -> None: ...
    def process(self, message: bytes, sender: str) -> Heard: ...
    def encrypt(self, plaintext: bytes) -> bytes: ...
    def tree(self) -> bytes: ...
    def exported(self) -> bytes:
        """The MLS-Exporter secret for EXPORTED."""

    def group_context(self) -> bytes | None:
        """The GroupContext, None if the implementation does not show it."""

    def group_info(self) -> bytes | None:
        """A GroupInfo with `external_pub`, None if the implementation does not give one."""
