"""Real bytes to and from mls-rs, an independent implementation, in suite 0x0001.

mls-rs creates the groups: its Python wheel cannot announce `app_data_dictionary`, which our own groups
require of every member, nor make an external commit or a key package that is valid for less than a year.
"""

import pytest
from mixed import GROUP_ID, KEY_PACKAGE_HEADER, Mixed, message, mls_rs, peer_client

from openmls import (
    Client,
    InvalidKeyPackage,
    InvalidProposal,
    MlsError,
    inspect_key_package,
    inspect_message,
    welcome_references,
)


@pytest.fixture(params=[True, False], ids=["tree inside", "tree apart"])
def mixed(request: pytest.FixtureRequest) -> Mixed:
    return Mixed(tree_inside=request.param)


def test_we_join_by_a_welcome_of_mls_rs_and_all_read_each_other(mixed: Mixed) -> None:
    assert [member.identity for member in mixed.hub.members()] == [b"bob", b"carol", b"alice"]
    assert (mixed.hub.group_id, mixed.hub.epoch, mixed.hub.ciphersuite) == (GROUP_ID, 2, 1)
    mixed.talk()


def test_a_welcome_of_mls_rs_names_our_key_package(mixed: Mixed) -> None:
    key_package = mixed.key_package("dave")
    output = mixed.peers["bob"].add_members([message(KEY_PACKAGE_HEADER + key_package)])
    welcome = output.welcome_message.to_bytes()
    assert inspect_message(welcome).wire_format == "welcome"
    assert welcome_references(welcome) == (inspect_key_package(key_package, now=mixed.now).reference,)


def test_commits_go_both_ways(mixed: Mixed) -> None:
    for _ in range(2):
        bundle = mixed.ours["alice"].commit(aad=b"seen by the hub")
        staged = mixed.commit(bundle.commit, "alice")
        assert staged.authenticated_data == b"seen by the hub"
        assert mixed.hub.export_ratchet_tree() == bundle.ratchet_tree
        for peer in ("carol", "bob"):
            staged = mixed.commit(mixed.peers[peer].commit().commit_message.to_bytes(), peer)
            assert staged.committer_identity == peer.encode()
    assert mixed.hub.epoch == 8
    mixed.talk()


def test_each_adds_members_that_join_by_its_welcome(mixed: Mixed) -> None:
    bundle = mixed.ours["alice"].commit(add=[mixed.key_package("dave"), mixed.key_package("erin")])
    mixed.commit(bundle.commit, "alice")
    assert bundle.welcome is not None
    for name in ("dave", "erin"):
        mixed.ours[name] = mixed.clients[name].join_welcome(
            welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
        )
    output = mixed.peers["carol"].add_members([message(KEY_PACKAGE_HEADER + mixed.key_package("frank"))])
    staged = mixed.commit(output.commit_message.to_bytes(), "carol")
    assert [member.identity for member in staged.added] == [b"frank"]
    mixed.join("frank", output)
    mixed.check()
    mixed.talk()


def test_each_removes_a_member_of_the_other(mixed: Mixed) -> None:
    dave = mixed.key_package("dave")
    output = mixed.peers["bob"].add_members([message(KEY_PACKAGE_HEADER + dave)])
    mixed.commit(output.commit_message.to_bytes(), "bob")
    mixed.join("dave", output)
    output = mixed.peers["bob"].remove_members([mixed.identity("dave")])
    staged = mixed.commit(output.commit_message.to_bytes(), "bob")
    assert [member.identity for member in staged.removed] == [b"dave"]
    bundle = mixed.ours["alice"].commit(remove=[mixed.leaf("carol")])
    mixed.commit(bundle.commit, "alice")
    assert set(mixed.peers) == {"bob"}
    assert set(mixed.ours) == {"alice"}
    mixed.talk()


def test_each_commits_a_proposal_of_the_other_by_reference(mixed: Mixed) -> None:
    dave = Client.create(identity=b"dave")
    group_info, tree = mixed.ours["alice"].group_info()
    mixed.ours["dave"], bundle = dave.join_external(group_info=group_info, ratchet_tree=tree)
    mixed.commit(bundle.commit, "dave")

    [proposal] = mixed.peers["bob"].propose_remove_members([mixed.identity("dave")])
    mixed.propose(proposal.to_bytes(), "bob")
    [stored] = mixed.hub.proposals()
    staged = mixed.commit(mixed.ours["alice"].commit().commit, "alice")
    assert staged.proposal_references == (stored.reference,)
    assert set(mixed.ours) == {"alice"}

    mixed.propose(mixed.ours["alice"].propose_remove(mixed.leaf("carol")), "alice")
    [stored] = mixed.hub.proposals()
    staged = mixed.commit(mixed.peers["bob"].commit().commit_message.to_bytes(), "bob")
    assert staged.proposal_references == (stored.reference,)
    assert set(mixed.peers) == {"bob"}
    mixed.talk()


def test_an_add_proposal_of_mls_rs_is_committed_by_us(mixed: Mixed) -> None:
    key_package = message(KEY_PACKAGE_HEADER + mixed.key_package("dave"))
    [proposal] = mixed.peers["carol"].propose_add_members([key_package])
    mixed.propose(proposal.to_bytes(), "carol")
    bundle = mixed.ours["alice"].commit()
    mixed.commit(bundle.commit, "alice")
    assert bundle.welcome is not None
    mixed.ours["dave"] = mixed.clients["dave"].join_welcome(
        welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
    )
    mixed.check()
    mixed.talk()


def test_mls_rs_follows_an_external_join_and_a_rejoin_that_replaces_a_leaf(mixed: Mixed) -> None:
    group_info, tree = mixed.ours["alice"].group_info()
    dave = Client.create(identity=b"dave")
    mixed.ours["dave"], bundle = dave.join_external(group_info=group_info, ratchet_tree=tree)
    staged = mixed.commit(bundle.commit, "dave")
    assert staged.is_external
    mixed.talk()

    lost = mixed.ours.pop("dave")
    again = Client.create(identity=b"dave")
    mixed.ours["dave"], bundle = again.join_external(
        group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree, replace_leaf=lost.own_leaf_index
    )
    staged = mixed.commit(bundle.commit, "dave")
    assert [member.identity for member in staged.removed] == [b"dave"]
    assert [member.identity for member in staged.added] == [b"dave"]
    assert lost.process(bundle.commit).self_removed
    mixed.talk()


def test_late_and_reordered_messages_are_read(mixed: Mixed) -> None:
    alice, bob = mixed.ours["alice"], mixed.peers["bob"]
    from_bob = [bob.encrypt_application_message(bytes([number])).to_bytes() for number in range(5)]
    from_alice = [alice.encrypt(bytes([number])) for number in range(5)]
    mixed.commit(alice.commit().commit, "alice")
    for number in (3, 1, 4, 0, 2):
        processed = alice.process(from_bob[number])
        assert (processed.plaintext, processed.epoch) == (bytes([number]), 2)
        assert bob.process_incoming_message(message(from_alice[number])).data == bytes([number])


def test_we_go_on_with_mls_rs_after_loading_what_was_saved(mixed: Mixed) -> None:
    from_bob = mixed.peers["bob"].encrypt_application_message(b"before").to_bytes()
    mixed.clients["alice"] = Client.load(mixed.clients["alice"].save())
    mixed.ours["alice"] = mixed.clients["alice"].group(GROUP_ID)
    assert mixed.ours["alice"].process(from_bob).plaintext == b"before"
    mixed.hub = type(mixed.hub).load(mixed.hub.save())
    mixed.commit(mixed.ours["alice"].commit().commit, "alice")
    mixed.talk()


def test_a_commit_changed_on_the_way_is_refused_by_both(mixed: Mixed) -> None:
    good = mixed.peers["bob"].commit().commit_message.to_bytes()
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
        with pytest.raises(mls_rs.Error):
            mixed.peers["carol"].process_incoming_message(message(bytes(bad)))
    mixed.ours["alice"].clear_pending_commit()
    mixed.commit(good, "bob")
    mixed.talk()


def test_mls_rs_cannot_be_a_member_of_a_group_that_requires_app_data(mixed: Mixed) -> None:
    group = mixed.clients["alice"].create_group(group_id=b"ours", app_data={})
    key_package = peer_client(b"dave", tree_inside=True).generate_key_package_message().to_bytes()
    with pytest.raises((InvalidKeyPackage, InvalidProposal)):
        group.commit(add=[key_package])
    assert not group.has_pending_commit


def test_nothing_that_mls_rs_does_not_know_is_committed_while_it_is_a_member(mixed: Mixed) -> None:
    # RFC 9420 section 12.2: a list is invalid if "it contains a proposal with a non-default proposal type
    # that is not supported by some members of the group that will process the Commit".
    with pytest.raises(InvalidProposal):
        mixed.ours["alice"].commit(app_data_updates={0x8001: b"new"}, new_app_data={0x8001: b"new"})
    mixed.talk()
