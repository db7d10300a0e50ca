"""What only ts-mls among our peers can do: GroupInfos, external commits, a look inside; and its limits."""

from functools import partial

import pytest

from forge import BY_REFERENCE, Reader
from mixed import GROUP_ID, GROUP_INFO_HEADER, WEEK, Mixed
from openmls import (
    Client,
    InvalidCommit,
    InvalidProposal,
    InvalidSignature,
    WrongEpoch,
    group_info_details,
    inspect_key_package,
)
from peers import RefusedByPeerError
from peers.ts_mls import CLOCK_SKEW, LIFETIME, TsMls, TsMlsPeer

COMPONENT = 0x8001
TsMixed = Mixed[TsMlsPeer]


def make(ts_mls: TsMls, suite: int) -> TsMixed:
    make_peer = partial(TsMlsPeer, ts_mls, suite=suite, plain=False, tree_inside=False)
    return Mixed(make_peer, created_by="us", plain=False, suite=suite)


@pytest.fixture(params=[1, 2, 3], ids="suite {}".format)
def mixed(request: pytest.FixtureRequest, ts_mls: TsMls) -> TsMixed:
    return make(ts_mls, request.param)


@pytest.fixture
def limited(ts_mls: TsMls) -> TsMixed:
    """For what does not depend on the suite."""
    return make(ts_mls, 1)


def external_join(mixed: TsMixed, name: str, *, replace: bool = False) -> bytes:
    """Let a peer make an external commit from a GroupInfo of ours."""
    group_info, tree = mixed.ours["alice"].group_info()
    mixed.peers[name] = mixed.make_peer(name)
    return mixed.peers[name].join_external(GROUP_INFO_HEADER + group_info, tree, replace=replace)


def test_ts_mls_sees_the_epoch_and_the_hashes_that_we_see(mixed: TsMixed) -> None:
    mixed.commit(mixed.peers["bob"].commit().commit, "bob")
    ours = group_info_details(mixed.ours["alice"].group_info()[0])
    theirs = mixed.peers["carol"].group()
    assert theirs["epoch"] == ours.epoch == mixed.hub.epoch
    assert theirs["tree_hash"] == ours.tree_hash.hex()
    assert theirs["confirmed_transcript_hash"] == ours.confirmed_transcript_hash.hex()
    assert theirs["group_context"] == ours.group_context.hex()
    assert theirs["leaf"] == mixed.leaf("carol")


def test_a_key_package_of_ts_mls_says_what_it_should(mixed: TsMixed) -> None:
    info = inspect_key_package(mixed.make_peer("dave").key_package(), now=mixed.now)
    assert (info.identity, info.ciphersuite, info.last_resort) == (b"dave", mixed.suite, False)
    assert info.not_after - info.not_before == CLOCK_SKEW + LIFETIME
    assert info.capabilities.ciphersuites == (mixed.suite,)


def test_ts_mls_joins_by_an_external_commit(mixed: TsMixed) -> None:
    staged = mixed.commit(external_join(mixed, "dave"), "dave")
    assert staged.is_external
    assert staged.committer_identity == b"dave"
    mixed.talk()


def test_ts_mls_rejoins_with_new_keys_in_place_of_its_leaf(mixed: TsMixed) -> None:
    leaf = mixed.leaf("bob")
    staged = mixed.commit(external_join(mixed, "bob", replace=True), "bob")
    assert [member.identity for member in staged.removed] == [b"bob"]
    assert [(member.identity, member.leaf_index) for member in staged.added] == [(b"bob", leaf)]
    mixed.talk()
    mixed.commit(mixed.peers["bob"].commit().commit, "bob")
    mixed.talk()


def test_we_join_and_rejoin_by_the_group_info_of_ts_mls(mixed: TsMixed) -> None:
    bob = mixed.peers["bob"]
    mixed.ours["dave"], bundle = mixed.client("dave").join_external(
        group_info=bob.group_info(), ratchet_tree=bob.tree()
    )
    mixed.commit(bundle.commit, "dave")
    mixed.talk()
    mixed.ours["dave"], bundle = mixed.client("dave").join_external(
        group_info=bob.group_info(), ratchet_tree=bob.tree(), replace_leaf=mixed.leaf("dave")
    )
    staged = mixed.commit(bundle.commit, "dave")
    assert [member.identity for member in staged.removed] == [b"dave"]
    mixed.talk()


def test_the_hub_verifies_the_group_info_that_ts_mls_gives_after_its_commit(mixed: TsMixed) -> None:
    bob = mixed.peers["bob"]
    before, commit = bob.group_info(), bob.commit().commit
    staged = mixed.hub.stage_commit(commit)
    with pytest.raises(WrongEpoch):
        mixed.hub.verify_group_info(staged=staged, group_info=before)
    bob.merge(commit)
    group_info = bob.group_info()
    mixed.hub.verify_group_info(staged=staged, group_info=group_info)
    at = group_info.index(staged.confirmation_tag)
    forged = group_info[:at] + bytes([group_info[at] ^ 1]) + group_info[at + 1 :]
    with pytest.raises(InvalidCommit):
        mixed.hub.verify_group_info(staged=staged, group_info=forged)


def test_a_commit_of_ts_mls_removes_and_adds_at_once_and_carries_authenticated_data(mixed: TsMixed) -> None:
    mixed.propose(mixed.ours["alice"].propose_remove(mixed.leaf("carol")), "alice")
    [stored] = mixed.hub.proposals()
    # ts-mls looks whether its leaf is blank to see that it was removed; here dave takes it at once.
    del mixed.peers["carol"]
    sent = mixed.peers["bob"].change(add=[mixed.key_package("dave")], aad=b"readable")
    staged = mixed.commit(sent.commit, "bob")
    assert staged.authenticated_data == b"readable"
    assert [member.identity for member in staged.removed] == [b"carol"]
    assert [member.identity for member in staged.added] == [b"dave"]
    assert staged.proposal_references == (stored.reference,)
    assert staged.added[0].leaf_index == staged.removed[0].leaf_index
    assert sent.welcome is not None
    mixed.join("dave", sent.welcome, sent.tree)
    mixed.check()
    mixed.talk()


def test_we_follow_a_commit_without_an_update_path(mixed: TsMixed) -> None:
    # RFC 9420 section 12.4 asks for a path unless no proposal is of a type that needs one; additions do not.
    # We always send one; ts-mls leaves it out.
    commit = mixed.peers["bob"].add(mixed.key_package("dave")).commit
    reader = Reader(commit)
    reader.take(4)  # version and wire format
    reader.vector()  # group_id
    reader.take(8 + 5)  # epoch and sender
    reader.vector()  # authenticated_data
    reader.take(1)  # content type
    assert not reader.vector().startswith(BY_REFERENCE)
    assert reader.take(1) == b"\x00"  # optional<UpdatePath>
    before = mixed.hub.members()
    staged = mixed.commit(commit, "bob")
    assert staged.members == (*before, *staged.added)


def test_we_follow_ts_mls_when_it_adds_one_of_its_own(mixed: TsMixed) -> None:
    dave = mixed.make_peer("dave")
    sent = mixed.peers["bob"].add(dave.key_package())
    staged = mixed.commit(sent.commit, "bob")
    assert [member.identity for member in staged.added] == [b"dave"]
    assert sent.welcome is not None
    dave.join(sent.welcome, sent.tree)
    mixed.peers["dave"] = dave
    mixed.check()
    mixed.talk()


@pytest.mark.parametrize("winner", ["alice", "bob"])
def test_the_commit_that_comes_first_wins_over_one_that_is_pending(mixed: TsMixed, winner: str) -> None:
    commits = {
        "alice": mixed.ours["alice"].commit().commit,
        "bob": mixed.peers["bob"].commit().commit,
    }
    if winner == "bob":
        mixed.ours["alice"].clear_pending_commit()
    staged = mixed.commit(commits.pop(winner), winner)
    assert staged.committer_identity == winner.encode()
    with pytest.raises(WrongEpoch):
        mixed.hub.stage_commit(*commits.values())
    mixed.talk()


def test_ts_mls_reads_authenticated_data_and_a_long_message_of_ours_and_we_read_its(mixed: TsMixed) -> None:
    long = bytes(range(256)) * 1024
    said = mixed.ours["alice"].encrypt(long, aad=b"readable")
    assert mixed.peers["bob"].process(said, "alice").plaintext == long
    processed = mixed.ours["alice"].process(mixed.peers["bob"].encrypt(long, aad=b"readable"))
    assert (processed.plaintext, processed.aad) == (long, b"readable")


def test_a_client_that_ts_mls_removed_is_added_by_it_again(mixed: TsMixed) -> None:
    removed = mixed.ours["alice"]
    mixed.commit(mixed.peers["bob"].remove("alice", mixed.leaf("alice")).commit, "bob")
    assert not removed.is_active
    again = b"\x00\x01\x00\x05" + mixed.clients["alice"].key_package(now=mixed.now, lifetime=WEEK)
    sent = mixed.peers["carol"].add(again)
    mixed.commit(sent.commit, "carol")
    assert sent.welcome is not None
    mixed.join("alice", sent.welcome, sent.tree)
    mixed.check()
    mixed.talk()


def test_a_group_info_of_ts_mls_with_another_key_in_it_is_refused(limited: TsMixed) -> None:
    bob = limited.peers["bob"]
    group_info = bob.group_info()
    at = group_info.rindex(b"\x00\x04\x21\x20") + 4  # extension external_pub, its length, the key's length
    forged = group_info[:at] + bytes([group_info[at] ^ 1]) + group_info[at + 1 :]
    with pytest.raises(InvalidSignature):
        Client.create(identity=b"dave").join_external(group_info=forged, ratchet_tree=bob.tree())


def test_ts_mls_cannot_follow_an_app_data_update_and_stays_where_it_is(limited: TsMixed) -> None:
    values = {COMPONENT: b"new"}
    alice = limited.ours["alice"]
    bundle = alice.commit(app_data_updates=values, new_app_data=values)
    for name, peer in limited.peers.items():
        with pytest.raises(RefusedByPeerError):
            peer.process(bundle.commit, name)
    alice.clear_pending_commit()
    limited.commit(alice.commit().commit, "alice")
    limited.talk()


def test_ts_mls_cannot_read_a_self_remove_nor_a_proposal_of_an_external_sender(limited: TsMixed) -> None:
    # It reads unknown proposals as vectors, which a SelfRemove is not, and writes `external_senders` as one
    # ExternalSender where RFC 9420 section 12.1.8.1 has a vector of them.
    limited.ours["dave"], bundle = limited.client("dave").join_external(
        group_info=limited.ours["alice"].group_info()[0], ratchet_tree=limited.hub.export_ratchet_tree()
    )
    limited.commit(bundle.commit, "dave")
    proposals = [
        limited.ours["dave"].propose_self_remove(),
        limited.hub.propose_remove(signer=limited.hub_key, sender_index=0, leaf_index=limited.leaf("carol")),
    ]
    for proposal in proposals:
        limited.hub.stage_proposal(proposal)
        with pytest.raises(RefusedByPeerError):
            limited.peers["bob"].process(proposal, "dave")
    assert limited.ours["alice"].group_id == GROUP_ID


def test_a_client_of_ts_mls_without_what_our_group_requires_is_committed_by_neither(
    limited: TsMixed, ts_mls: TsMls
) -> None:
    plain = TsMlsPeer(ts_mls, "dave", suite=1, plain=True, tree_inside=False)
    alice = limited.ours["alice"]
    with pytest.raises(InvalidProposal):
        alice.commit(add=[plain.key_package()])
    assert not alice.has_pending_commit
    with pytest.raises(RefusedByPeerError):
        limited.peers["bob"].add(plain.key_package())
    limited.commit(alice.commit().commit, "alice")
    limited.talk()
