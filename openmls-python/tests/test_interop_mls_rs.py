"""What mls-rs cannot do with us is refused where it begins; the rest is in `test_interop_members`."""

import pytest

from mixed import Mixed
from openmls import Client, InvalidKeyPackage, InvalidProposal, inspect_key_package
from peers.mls_rs import MlsRsPeer


def peer(name: str) -> MlsRsPeer:
    return MlsRsPeer(name, tree_inside=True)


def test_a_key_package_of_mls_rs_is_refused_since_it_is_valid_for_a_year(now: int) -> None:
    # RFC 9420 section 7.2: "Applications MUST define a maximum total lifetime that is acceptable for a
    # LeafNode, and reject any LeafNode where the total lifetime is longer than this duration."
    key_package = peer("dave").key_package()
    with pytest.raises(InvalidKeyPackage, match="too long"):
        inspect_key_package(key_package, now=now)
    group = Client.create(identity=b"alice").create_group(group_id=b"ours", required_capabilities=False)
    with pytest.raises(InvalidKeyPackage, match="too long"):
        group.commit(add=[key_package])
    assert not group.has_pending_commit
    assert group.commit().welcome is None


def test_a_commit_of_mls_rs_that_adds_another_member_of_mls_rs_is_refused_by_us() -> None:
    mixed = Mixed(peer, created_by="peer", plain=True)
    before = mixed.clients["alice"].save()
    commit = mixed.peers["bob"].add(peer("dave").key_package()).commit
    for take in (mixed.hub.stage_commit, mixed.ours["alice"].process):
        with pytest.raises(InvalidProposal, match="too long"):
            take(commit)
    assert mixed.clients["alice"].save() == before
    mixed.commit(mixed.ours["alice"].commit().commit, "alice")
    mixed.talk()


def test_nothing_that_mls_rs_does_not_know_is_committed_while_it_is_a_member() -> None:
    # RFC 9420 section 12.2: a list is invalid if "it contains a proposal with a non-default proposal type
    # that is not supported by some members of the group that will process the Commit".
    mixed = Mixed(peer, created_by="peer", plain=True)
    with pytest.raises(InvalidProposal):
        mixed.ours["alice"].commit(app_data_updates={0x8001: b"new"}, new_app_data={0x8001: b"new"})
    mixed.talk()
