"""Which leaves of a followed room's group are whose, so that a follower knows when its users are out.

A MIMI follower is told of no membership. But it is given the tree with each Welcome, and every commit and
proposal; so it can follow which leaf is whose, without checking anything: whoever decides what we are sent
decides that as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

import cbor2
import openmls

from linearized.exceptions import IdentifierError
from linearized.mimi.commit_parts import leaf_credential
from linearized.mimi.leaf_changes import (
    CommittedChanges,
    LeafChange,
    committed_changes,
    leaf_credentials,
    proposed_change,
)
from linearized.room.credentials import client_of

# Proposals of one epoch that are remembered; our hubs take 256. A hub that sends more is not followed so
# closely.
MAX_PENDING: Final = 1024


class TrackLost(Exception):  # noqa: N818 - not an error of anybody's: we were away, or not told enough
    """What was sent does not follow what is known of the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedGroup:
    """The leaves of a group.

    Attributes:
        ciphersuite: of the group.
        epoch: the group's; None until the first commit after the Welcome tells it.
        welcomed: references of the key packages that the Welcome was for: the commit that added them comes
            before the tree.
        leaves: user ID by leaf if the user is ours, else an empty text.
        pending: by ProposalRef what the epoch's proposals do: blank a leaf, or put in one of this owner.
        leaving: leaves that the hub has proposed to remove.
    """

    ciphersuite: int
    epoch: int | None = None
    welcomed: tuple[bytes, ...] = ()
    leaves: dict[int, str]
    pending: dict[bytes, int | str] = field(default_factory=dict)
    leaving: frozenset[int] = frozenset()

    @classmethod
    def from_welcome(
        cls, welcome: bytes, tree: bytes, *, ciphersuite: int, ours: Callable[[str], bool]
    ) -> FollowedGroup:
        """The group as a Welcome gives it.

        Raises:
            MimiDecodeError: the tree is malformed.
        """
        return cls(
            ciphersuite=ciphersuite,
            welcomed=openmls.welcome_references(welcome),
            leaves={leaf: _owner(found, ours) for leaf, found in leaf_credentials(tree).items()},
        )

    @property
    def users(self) -> set[str]:
        """Our users with a leaf that stays."""
        return {user for leaf, user in self.leaves.items() if user and leaf not in self.leaving}

    def proposed(self, message: bytes, ours: Callable[[str], bool]) -> FollowedGroup:
        """The group after a proposal.

        Raises:
            TrackLost: it is of an epoch that is not here yet, or there are too many.
        """
        found = proposed_change(message)
        if self.epoch is not None and found.epoch < self.epoch:
            return self
        if self.epoch is not None and found.epoch > self.epoch:
            raise TrackLost("commits before a proposal are missing")
        effect = _effect(found.change, ours)
        if effect is None:
            return self
        if len(self.pending) >= MAX_PENDING:
            raise TrackLost("there are too many proposals")
        reference = openmls.proposal_reference(message, ciphersuite=self.ciphersuite)
        # A hub proposes to remove who is out of the room; a member's proposal counts once it is committed.
        gone = {effect} if found.external and isinstance(effect, int) else set()
        return replace(self, pending={**self.pending, reference: effect}, leaving=self.leaving | gone)

    def committed(self, message: bytes, ours: Callable[[str], bool]) -> FollowedGroup:
        """The group after a commit.

        Raises:
            TrackLost: it is of an epoch that is not here yet, or names proposals that are not known.
        """
        commit = committed_changes(message)
        if self.epoch is None:
            added = {openmls.key_package_reference(made) for made in _added(commit)}
            if added & set(self.welcomed):
                return replace(self, epoch=commit.epoch + 1)
        elif commit.epoch < self.epoch:
            return self
        elif commit.epoch > self.epoch:
            raise TrackLost("commits are missing")
        leaves = dict(self.leaves)
        effects = [effect for change in commit.changes if (effect := _effect(change, ours)) is not None]
        # What is not known here is no removal or addition: those alone are remembered.
        effects += [self.pending[reference] for reference in commit.references if reference in self.pending]
        for effect in effects:
            if isinstance(effect, int):
                leaves.pop(effect, None)
        arrivals = [effect for effect in effects if isinstance(effect, str)]
        if commit.joiner is not None:
            arrivals.insert(0, _owner(commit.joiner, ours))
        # "The leaf … is placed in the leftmost blank leaf" (RFC 9420, 7.7): one after the other.
        for owner, leaf in zip(arrivals, _blanks(leaves), strict=False):
            leaves[leaf] = owner
        return FollowedGroup(ciphersuite=self.ciphersuite, epoch=commit.epoch + 1, leaves=leaves)

    def encode(self) -> bytes:
        """The bytes to store."""
        return cbor2.dumps(
            [
                self.ciphersuite,
                self.epoch,
                list(self.welcomed),
                self.leaves,
                self.pending,
                sorted(self.leaving),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> FollowedGroup:
        """What ``encode`` made."""
        ciphersuite, epoch, welcomed, leaves, pending, leaving = cbor2.loads(data)
        return cls(
            ciphersuite=ciphersuite,
            epoch=epoch,
            welcomed=tuple(welcomed),
            leaves=leaves,
            pending=pending,
            leaving=frozenset(leaving),
        )


def joiner_of(message: bytes, ours: Callable[[str], bool]) -> str | None:
    """The user of ours whose client joins by an external commit; None for any other commit."""
    joiner = committed_changes(message).joiner
    return (_owner(joiner, ours) or None) if joiner is not None else None


def _blanks(leaves: dict[int, str]) -> Iterator[int]:
    return (leaf for leaf in count() if leaf not in leaves)


def _added(commit: CommittedChanges) -> list[bytes]:
    return [change.added for change in commit.changes if change.added is not None]


def _effect(change: LeafChange, ours: Callable[[str], bool]) -> int | str | None:
    if change.added is not None:
        return _owner(leaf_credential(change.added), ours)
    return change.removed


def _owner(credential: bytes, ours: Callable[[str], bool]) -> str:
    """Whose a leaf is if it is a user's of ours, else an empty text: all the others are alike."""
    try:
        user_id = client_of(credential).user_id
    except IdentifierError:
        return ""
    return user_id if ours(user_id) else ""
