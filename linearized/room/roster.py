"""Who has which leaf of a group, kept along with it: a commit costs what it changes, not the group's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from linearized.mls import Member, StagedCommit
from linearized.room.credentials import ClientIdentity
from linearized.room.leaves import identify

K = TypeVar("K", bound=Hashable)


class Roster:
    """The clients of a group in one epoch.

    Args:
        members: everyone in the group.

    Raises:
        Rejected: ``INVALID_COMMIT`` if a credential names nobody.
    """

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._clients = {member.leaf_index: identify(member) for member in members}
        self._leaves = Counter(self._clients.values())
        self._users = Counter(client.user_id for client in self._clients.values())

    @property
    def clients(self) -> Mapping[int, ClientIdentity]:
        """By leaf."""
        return self._clients

    @property
    def users(self) -> Mapping[str, int]:
        """How many leaves each user has; who has none is not there."""
        return self._users

    def __contains__(self, client: ClientIdentity) -> bool:
        return client in self._leaves

    def users_after(self, staged: StagedCommit) -> Mapping[str, int]:
        """``users`` once a commit is merged."""
        added, removed = staged.added, staged.removed
        if not added and not removed:
            return self._users
        users = self._users.copy()
        users.subtract(identify(member).user_id for member in removed)
        users.update(identify(member).user_id for member in added)
        return +users

    def remains(self, client: ClientIdentity, staged: StagedCommit) -> bool:
        """Whether a client has a leaf that a commit does not remove."""
        gone = sum(identify(member) == client for member in staged.removed) if client in self else 0
        return self._leaves.get(client, 0) > gone

    def merge(self, staged: StagedCommit) -> None:
        """Follow the group over a commit; an update keeps whose leaf it is."""
        for member in staged.removed:
            client = self._clients.pop(member.leaf_index)
            _less(self._leaves, client)
            _less(self._users, client.user_id)
        for member in staged.added:
            client = self._clients[member.leaf_index] = identify(member)
            self._leaves[client] += 1
            self._users[client.user_id] += 1


def _less(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
