"""The little the room needs from an MLS implementation, as Protocols; ``openmls`` satisfies them.

All ``bytes`` are TLS-encoded. Every method raises ``MlsError`` (or a subclass) and changes nothing on failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from openmls import MlsError as MlsError
from openmls import WrongEpoch as WrongEpoch


class MessageInfo(Protocol):
    """What an MLSMessage says on its outside."""

    @property
    def wire_format(self) -> str: ...
    @property
    def group_id(self) -> bytes | None: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def is_external_commit(self) -> bool: ...


class Member(Protocol):
    """One leaf: who it is and where it sits."""

    @property
    def leaf_index(self) -> int: ...
    @property
    def identity(self) -> bytes: ...


class AppDataUpdate(Protocol):
    """One AppDataUpdate proposal a commit applies."""

    @property
    def component_id(self) -> int: ...
    @property
    def operation(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class StagedCommit(Protocol):
    """A commit verified against a public group and not yet merged."""

    @property
    def epoch(self) -> int: ...
    @property
    def is_external(self) -> bool: ...
    @property
    def committer_identity(self) -> bytes: ...
    @property
    def added(self) -> Sequence[Member]: ...
    @property
    def removed(self) -> Sequence[Member]: ...
    @property
    def updated(self) -> Sequence[Member]: ...
    @property
    def proposal_kinds(self) -> Sequence[str]: ...
    @property
    def app_data(self) -> Mapping[int, bytes]: ...


class ProposalInfo(Protocol):
    """A verified standalone proposal."""

    @property
    def reference(self) -> bytes: ...
    @property
    def kind(self) -> str: ...
    @property
    def sender_leaf(self) -> int | None: ...
    @property
    def removed_leaf(self) -> int | None: ...


class PublicGroup(Protocol):
    """A group as a delivery service sees it: no secrets."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    def members(self) -> Sequence[Member]:
        """Every occupied leaf."""
        ...

    def app_data(self) -> Mapping[int, bytes]:
        """The ``app_data_dictionary`` of the group context, by component ID."""
        ...

    def app_data_updates(self, message: bytes) -> Sequence[AppDataUpdate]:
        """The AppDataUpdates a commit would apply, by value and by reference, unverified."""
        ...

    def stage_commit(self, message: bytes, *, new_app_data: Mapping[int, bytes] = ...) -> StagedCommit:
        """Verify a commit; ``new_app_data`` holds the component values its updates lead to."""
        ...

    def verify_group_info(self, *, staged: StagedCommit, group_info: bytes) -> None:
        """Check a GroupInfo of the new epoch against the staged state."""
        ...

    def merge(self, staged: StagedCommit) -> None:
        """Make the staged commit the group's state."""
        ...

    def stage_proposal(self, message: bytes) -> ProposalInfo:
        """Verify a proposal without storing it."""
        ...

    def add_proposal(self, message: bytes) -> ProposalInfo:
        """Verify a proposal and keep it for commits that refer to it."""
        ...

    def export_ratchet_tree(self) -> bytes:
        """The ``ratchet_tree`` extension's vector of nodes."""
        ...

    def save(self) -> bytes:
        """A snapshot that ``Mls.load`` takes."""
        ...


class Mls(Protocol):
    """The implementation as a whole."""

    def inspect_message(self, data: bytes) -> MessageInfo:
        """Parse the outside of an MLSMessage strictly."""
        ...

    def welcome_references(self, welcome: bytes) -> Sequence[bytes]:
        """The KeyPackageRefs a Welcome (MLSMessage or bare) is for."""
        ...

    def observe(self, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """Start tracking a group from a signed GroupInfo and its tree, both verified."""
        ...

    def load(self, snapshot: bytes) -> PublicGroup:
        """Continue from a snapshot."""
        ...
