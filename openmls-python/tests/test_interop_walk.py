"""Random walks: whatever members of two implementations do, in whatever order, all stay in step.

Trees with blank nodes, unmerged leaves and free leaves on every side come about here that nobody thought of.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeVar

import pytest

from mixed import GROUP_INFO_HEADER, Mixed
from peers import RefusedByPeerError
from peers.ts_mls import TsMls, TsMlsPeer

Result = TypeVar("Result")
STEPS = 25
MOST_MEMBERS = 12  # a tree of four levels
# (suite, seed): more of the suite that ts-mls is fast in
WALKS = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 4), (3, 5)]
FEWEST_AT_HAND = 3  # members that no step removes, so that the next has somebody to choose
# RFC 9420 section 12.4.3.1 has a joiner check that the nodes between an unmerged leaf and a parent that lists
# it list it too. ts-mls 1.6.4 wants whole lists to be equal, and so refuses some good trees when it joins.
WRONG_REFUSAL = "non-blank intermediate node must list leaf node in its unmerged_leaves"


def taken(join: Callable[[], Result]) -> Result | None:
    """What joining gives; None if ts-mls refuses the tree, as it should not."""
    try:
        return join()
    except RefusedByPeerError as refusal:
        if WRONG_REFUSAL not in str(refusal):
            raise
        return None


class Walk:
    """A group, and the random choices of what happens to it next."""

    def __init__(self, mixed: Mixed[TsMlsPeer], random: Random) -> None:
        self.mixed = mixed
        self.random = random
        self.made = 0

    def name(self) -> str:
        self.made += 1
        return f"member {self.made}"

    def at_hand(self) -> list[str]:
        return [*self.mixed.ours, *self.mixed.peers]

    def anybody(self, but: str | None = None) -> str:
        return self.random.choice([name for name in self.at_hand() if name != but])

    def commit(self) -> None:
        self.by(self.anybody(), [], [])

    def change(self) -> None:
        """Add up to three members of either implementation, and remove up to two, in one commit."""
        committer = self.anybody()
        room_left = MOST_MEMBERS - len(self.mixed.hub.members())
        added = [self.name() for _ in range(min(self.random.randrange(4), room_left))]
        spare = max(0, len(self.at_hand()) - FEWEST_AT_HAND)
        removed = {self.anybody(but=committer) for _ in range(min(self.random.randrange(3), spare))}
        self.by(committer, added, sorted(removed))

    def by(self, committer: str, added: list[str], removed: list[str]) -> None:
        mixed = self.mixed
        foreign = {name: mixed.make_peer(name) for name in added if self.random.random() < 0.5}
        packages = [
            foreign[name].key_package() if name in foreign else mixed.key_package(name) for name in added
        ]
        leaves = [mixed.leaf(name) for name in removed]
        for name in removed:  # ts-mls does not notice its removal if its leaf is taken at once
            mixed.peers.pop(name, None)
        if committer in mixed.ours:
            bundle = mixed.ours[committer].commit(add=packages, remove=leaves)
            commit, welcome, tree = bundle.commit, bundle.welcome, bundle.ratchet_tree
        else:
            sent = mixed.peers[committer].change(add=packages, remove=leaves)
            assert sent.tree is not None
            commit, welcome, tree = sent.commit, sent.welcome, sent.tree
        mixed.commit(commit, committer)
        for name in added:
            assert welcome is not None
            if name not in foreign:
                mixed.join(name, welcome, tree)
            elif taken(partial(self.joined, foreign[name], welcome, tree)):
                mixed.peers[name] = foreign[name]
        mixed.check()

    @staticmethod
    def joined(peer: TsMlsPeer, welcome: bytes, tree: bytes) -> bool:
        peer.join(welcome, tree)
        return True

    def join(self) -> None:
        """Join, or rejoin in place of a lost leaf, by an external commit of either implementation."""
        mixed = self.mixed
        lost = None
        if len(mixed.hub.members()) == MOST_MEMBERS or self.random.random() < 0.5:
            lost = self.anybody()
        giver = self.anybody(but=lost)
        if giver in mixed.ours:
            info, tree = mixed.ours[giver].group_info()
            group_info = GROUP_INFO_HEADER + info
        else:
            group_info, tree = mixed.peers[giver].group_info(), mixed.peers[giver].tree()
        name = lost or self.name()
        if lost in mixed.peers or (lost is None and self.random.random() < 0.5):
            peer = mixed.make_peer(name)
            made = taken(partial(peer.join_external, group_info, tree, replace=lost is not None))
            if made is None:
                return
            mixed.peers[name], commit = peer, made
        else:
            leaf = None if lost is None else mixed.leaf(lost)
            mixed.ours[name], bundle = mixed.client(name).join_external(
                group_info=group_info, ratchet_tree=tree, replace_leaf=leaf
            )
            commit = bundle.commit
        mixed.commit(commit, name)

    def propose(self) -> None:
        """Propose a removal and let somebody else commit it."""
        proposer, removed = self.anybody(), self.anybody()
        if proposer == removed or len(self.at_hand()) <= FEWEST_AT_HAND:
            return
        leaf = self.mixed.leaf(removed)
        if proposer in self.mixed.ours:
            proposal = self.mixed.ours[proposer].propose_remove(leaf)
        else:
            proposal = self.mixed.peers[proposer].propose_remove(removed, leaf)
        self.mixed.propose(proposal, proposer)
        committer = self.anybody(but=removed)
        self.by(committer, [], [])


@pytest.mark.parametrize(("suite", "seed"), WALKS)
def test_whatever_members_of_both_do_all_stay_in_step(ts_mls: TsMls, suite: int, seed: int) -> None:
    make_peer = partial(TsMlsPeer, ts_mls, suite=suite, plain=False, tree_inside=False)
    walk = Walk(Mixed(make_peer, created_by="us", plain=False, suite=suite), Random(seed))
    actions: list[Callable[[], None]] = [walk.commit, walk.change, walk.change, walk.join, walk.propose]
    for _ in range(STEPS):
        walk.random.choice(actions)()
        if walk.random.random() < 0.2:
            walk.mixed.talk()
    walk.mixed.talk()
    assert walk.mixed.hub.epoch > STEPS // 2
