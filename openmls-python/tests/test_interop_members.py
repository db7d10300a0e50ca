"""Groups with members of another implementation, the same operations with each: real bytes both ways.

mls-rs creates its groups itself: its Python wheel cannot be given a key package lifetime that we accept, nor
announce what our own groups require.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import pytest

from mixed import GROUP_ID, KEY_PACKAGE_HEADER, Mixed
from openmls import Client, MlsError, inspect_key_package, inspect_message, welcome_references
from peers import Peer, RefusedByPeerError
from peers.mls_rs import MlsRsPeer
from peers.ts_mls import TsMlsPeer


class Setting(NamedTuple):
    """Who the peers are, who created the group, and whether Welcomes of peers have the tree inside."""

    library: Literal["mls-rs", "ts-mls"]
    suite: int
    created_by: Literal["us", "peer"]
    plain: bool
    tree_inside: bool

    def __str__(self) -> str:
        creator = "us" if self.created_by == "us" else self.library
        kind = "plain" if self.plain else "required capabilities"
        tree = "inside" if self.tree_inside else "apart"
        return f"{self.library}, suite {self.suite}, created by {creator}, {kind}, tree {tree}"


SETTINGS = [
    Setting("mls-rs", 1, "peer", plain=True, tree_inside=True),
    Setting("mls-rs", 1, "peer", plain=True, tree_inside=False),
]
for _suite in (1, 2, 3):
    SETTINGS += [
        Setting("ts-mls", _suite, "us", plain=False, tree_inside=False),
        Setting("ts-mls", _suite, "us", plain=True, tree_inside=True),
        Setting("ts-mls", _suite, "peer", plain=True, tree_inside=False),
    ]


@pytest.fixture(params=SETTINGS, ids=str)
def mixed(request: pytest.FixtureRequest) -> Mixed[Peer]:
    setting: Setting = request.param
    make_peer: Callable[[str], Peer]
    if setting.library == "mls-rs":
        make_peer = partial(MlsRsPeer, tree_inside=setting.tree_inside)
    else:
        make_peer = partial(
            TsMlsPeer,
            request.getfixturevalue("ts_mls"),
            suite=setting.suite,
            plain=setting.plain,
            tree_inside=setting.tree_inside,
        )
    return Mixed(make_peer, created_by=setting.created_by, plain=setting.plain, suite=setting.suite)


def test_all_read_each_other_after_joining_by_a_welcome_of_the_other(mixed: Mixed[Peer]) -> None:
    assert {member.identity for member in mixed.hub.members()} == {b"alice", b"bob", b"carol"}
    assert (mixed.hub.group_id, mixed.hub.ciphersuite) == (GROUP_ID, mixed.suite)
    mixed.talk()


def test_a_welcome_of_the_other_names_our_key_package(mixed: Mixed[Peer]) -> None:
    key_package = mixed.key_package("dave")
    sent = mixed.peers["bob"].add(key_package)
    assert sent.welcome is not None
    assert inspect_message(sent.welcome).wire_format == "welcome"
    expected = inspect_key_package(key_package.removeprefix(KEY_PACKAGE_HEADER), now=mixed.now).reference
    assert welcome_references(sent.welcome) == (expected,)


def test_commits_without_proposals_go_both_ways(mixed: Mixed[Peer]) -> None:
    first = mixed.hub.epoch
    for _ in range(2):
        bundle = mixed.ours["alice"].commit(aad=b"seen by the hub")
        staged = mixed.commit(bundle.commit, "alice")
        assert staged.authenticated_data == b"seen by the hub"
        assert mixed.hub.export_ratchet_tree() == bundle.ratchet_tree
        for peer in ("carol", "bob"):
            staged = mixed.commit(mixed.peers[peer].commit().commit, peer)
            assert staged.committer_identity == peer.encode()
    assert mixed.hub.epoch == first + 6
    mixed.talk()


def test_each_adds_members_of_ours_that_join_by_its_welcome(mixed: Mixed[Peer]) -> None:
    bundle = mixed.ours["alice"].commit(add=[mixed.key_package("dave"), mixed.key_package("erin")])
    mixed.commit(bundle.commit, "alice")
    assert bundle.welcome is not None
    for name in ("dave", "erin"):
        mixed.join(name, bundle.welcome, bundle.ratchet_tree)
    sent = mixed.peers["carol"].add(mixed.key_package("frank"), mixed.key_package("grace"))
    staged = mixed.commit(sent.commit, "carol")
    assert [member.identity for member in staged.added] == [b"frank", b"grace"]
    assert sent.welcome is not None
    for name in ("frank", "grace"):
        mixed.join(name, sent.welcome, sent.tree)
    mixed.check()
    mixed.talk()


def test_each_removes_a_member_of_the_other(mixed: Mixed[Peer]) -> None:
    sent = mixed.peers["bob"].add(mixed.key_package("dave"))
    mixed.commit(sent.commit, "bob")
    assert sent.welcome is not None
    mixed.join("dave", sent.welcome, sent.tree)
    mixed.talk()
    staged = mixed.commit(mixed.peers["bob"].remove("dave", mixed.leaf("dave")).commit, "bob")
    assert [member.identity for member in staged.removed] == [b"dave"]
    mixed.commit(mixed.ours["alice"].commit(remove=[mixed.leaf("carol")]).commit, "alice")
    assert set(mixed.peers) == {"bob"}
    assert set(mixed.ours) == {"alice"}
    mixed.talk()


def test_each_commits_a_remove_proposal_of_the_other_by_reference(mixed: Mixed[Peer]) -> None:
    group_info, tree = mixed.ours["alice"].group_info()
    mixed.ours["dave"], bundle = mixed.client("dave").join_external(group_info=group_info, ratchet_tree=tree)
    mixed.commit(bundle.commit, "dave")
    mixed.talk()

    mixed.propose(mixed.peers["bob"].propose_remove("dave", mixed.leaf("dave")), "bob")
    [stored] = mixed.hub.proposals()
    assert stored.removed_leaf == mixed.leaf("dave")
    staged = mixed.commit(mixed.ours["alice"].commit().commit, "alice")
    assert staged.proposal_references == (stored.reference,)
    assert set(mixed.ours) == {"alice"}

    mixed.propose(mixed.ours["alice"].propose_remove(mixed.leaf("carol")), "alice")
    [stored] = mixed.hub.proposals()
    staged = mixed.commit(mixed.peers["bob"].commit().commit, "bob")
    assert staged.proposal_references == (stored.reference,)
    assert set(mixed.peers) == {"bob"}
    mixed.talk()


def test_an_add_proposal_of_the_other_is_committed_by_us(mixed: Mixed[Peer]) -> None:
    mixed.propose(mixed.peers["carol"].propose_add(mixed.key_package("dave")), "carol")
    bundle = mixed.ours["alice"].commit()
    mixed.commit(bundle.commit, "alice")
    assert bundle.welcome is not None
    mixed.join("dave", bundle.welcome, bundle.ratchet_tree)
    mixed.check()
    mixed.talk()


def test_the_other_follows_our_external_join_and_our_rejoin_that_replaces_a_leaf(mixed: Mixed[Peer]) -> None:
    group_info, tree = mixed.ours["alice"].group_info()
    mixed.ours["dave"], bundle = mixed.client("dave").join_external(group_info=group_info, ratchet_tree=tree)
    assert mixed.commit(bundle.commit, "dave").is_external
    mixed.talk()

    lost = mixed.ours.pop("dave")
    mixed.ours["dave"], bundle = mixed.client("dave").join_external(
        group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree, replace_leaf=lost.own_leaf_index
    )
    staged = mixed.commit(bundle.commit, "dave")
    assert [member.identity for member in staged.removed] == [b"dave"]
    assert [member.identity for member in staged.added] == [b"dave"]
    assert lost.process(bundle.commit).self_removed
    mixed.talk()


def test_late_and_reordered_messages_are_read_by_both(mixed: Mixed[Peer]) -> None:
    alice, bob, epoch = mixed.ours["alice"], mixed.peers["bob"], mixed.hub.epoch
    from_bob = [bob.encrypt(bytes([number])) for number in range(5)]
    from_alice = [alice.encrypt(bytes([number])) for number in range(5)]
    mixed.commit(alice.commit().commit, "alice")
    for number in (3, 1, 4, 0, 2):
        processed = alice.process(from_bob[number])
        assert (processed.plaintext, processed.epoch) == (bytes([number]), epoch)
        assert bob.process(from_alice[number], "alice").plaintext == bytes([number])


def test_we_go_on_after_loading_what_was_saved(mixed: Mixed[Peer]) -> None:
    from_bob = mixed.peers["bob"].encrypt(b"before")
    mixed.clients["alice"] = Client.load(mixed.clients["alice"].save())
    mixed.ours["alice"] = mixed.clients["alice"].group(GROUP_ID)
    assert mixed.ours["alice"].process(from_bob).plaintext == b"before"
    mixed.hub = type(mixed.hub).load(mixed.hub.save())
    mixed.commit(mixed.ours["alice"].commit().commit, "alice")
    mixed.talk()


def test_a_commit_changed_on_the_way_is_refused_by_both(mixed: Mixed[Peer]) -> None:
    good = mixed.peers["bob"].commit().commit
    ours = mixed.ours["alice"].commit().commit
    for offset in (1, 40, 120):  # in the membership tag, the confirmation tag and the signature
        bad = bytearray(good)
        bad[-offset] ^= 1
        before = mixed.clients["alice"].save()
        with pytest.raises(MlsError):
            mixed.ours["alice"].process(bytes(bad))
        assert mixed.clients["alice"].save() == before
        bad = bytearray(ours)
        bad[-offset] ^= 1
        with pytest.raises(RefusedByPeerError):
            mixed.peers["carol"].process(bytes(bad), "alice")
    mixed.ours["alice"].clear_pending_commit()
    mixed.commit(good, "bob")
    mixed.talk()


def test_an_old_commit_is_refused_by_both(mixed: Mixed[Peer]) -> None:
    ours = mixed.ours["alice"].commit().commit
    mixed.commit(ours, "alice")
    theirs = mixed.peers["bob"].commit().commit
    mixed.commit(theirs, "bob")
    for group in mixed.ours.values():
        with pytest.raises(MlsError):
            group.process(theirs)
    with pytest.raises(RefusedByPeerError):
        mixed.peers["carol"].process(ours, "alice")
    with pytest.raises(MlsError):
        mixed.hub.stage_commit(theirs)
    mixed.check()
    mixed.talk()
