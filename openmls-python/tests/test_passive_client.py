"""The official vectors of a client that joins by a Welcome and follows, with the keys they give it.

The handshakes of the vectors are PublicMessages, so a delivery service follows them as well.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from forge import Reader
from openmls import Client, Group, InvalidProposal, PskId, PublicGroup, SignatureKeyPair

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "passive-client.json").read_text())
COMMITS: list[dict[str, Any]] = VECTORS["handling_commit"]
ANY_LIFETIME = (1 << 64) - 1  # the vectors have leaves that never expire


def name(case: dict[str, Any]) -> str:
    return f"suite {case['cipher_suite']}, {'tree apart' if case['ratchet_tree'] else 'tree inside'}"


def identity(key_package: bytes) -> bytes:
    """The content of the basic credential in an MLSMessage(KeyPackage)."""
    reader = Reader(key_package)
    reader.take(8)
    for _ in range(3):
        reader.vector()
    assert reader.take(2) == b"\x00\x01"
    return reader.vector()


def join(case: dict[str, Any], maximum_lifetime: int = ANY_LIFETIME) -> tuple[Client, Group]:
    """Take the keys over and join; they expired long ago, which does not matter any more."""
    suite = case["cipher_suite"]
    key_package = bytes.fromhex(case["key_package"])
    client = Client.create(
        identity=identity(key_package),
        ciphersuite=suite,
        signature_key=SignatureKeyPair.from_bytes(bytes.fromhex(case["signature_priv"]), ciphersuite=suite),
        maximum_lifetime=maximum_lifetime,
    )
    client.import_key_package(
        key_package=key_package,
        init_key=bytes.fromhex(case["init_priv"]),
        encryption_key=bytes.fromhex(case["encryption_priv"]),
    )
    for psk in case["external_psks"]:
        client.add_psk(PskId.external(bytes.fromhex(psk["psk_id"])), bytes.fromhex(psk["psk"]))
    tree = bytes.fromhex(case["ratchet_tree"]) if case["ratchet_tree"] else None
    group = client.join_welcome(welcome=bytes.fromhex(case["welcome"]), ratchet_tree=tree)
    assert group.epoch_authenticator().hex() == case["initial_epoch_authenticator"]
    return client, group


def observe(group: Group, maximum_lifetime: int = ANY_LIFETIME) -> PublicGroup:
    group_info, tree = group.group_info()
    return PublicGroup.observe(group_info=group_info, ratchet_tree=tree, maximum_lifetime=maximum_lifetime)


@pytest.mark.parametrize("case", VECTORS["welcome"], ids=name)
def test_official_welcomes_are_joined(case: dict[str, Any]) -> None:
    _, group = join(case)
    assert observe(group).group_context() == group.group_context()


@pytest.mark.parametrize("case", COMMITS, ids=name)
def test_official_commits_are_followed_by_a_client_and_a_delivery_service(case: dict[str, Any]) -> None:
    client, group = join(case)
    hub = observe(group)
    for epoch in case["epochs"]:
        for proposal in map(bytes.fromhex, epoch["proposals"]):
            assert group.process(proposal).kind == "proposal"
            hub.add_proposal(proposal)
        commit = bytes.fromhex(epoch["commit"])
        staged = hub.stage_commit(commit)
        hub.merge(staged)
        assert group.process(commit).added == staged.added
        assert group.epoch_authenticator().hex() == epoch["epoch_authenticator"]
        hub, client = PublicGroup.load(hub.save()), Client.load(client.save())
        group = client.group(hub.group_id)
        assert hub.group_context() == group.group_context() == staged.group_context
        assert hub.members() == group.members()
        assert group.epoch_authenticator().hex() == epoch["epoch_authenticator"]


def adds_for_ever(case: dict[str, Any]) -> bool:
    """Whether the last commit adds a leaf by value that never expires."""
    commit = bytes.fromhex(case["epochs"][-1]["commit"])
    return (0).to_bytes(8, "big") + ANY_LIFETIME.to_bytes(8, "big") in commit


def test_a_leaf_that_never_expires_is_refused_where_leaves_have_to() -> None:
    """RFC 9420 section 7.2: "Applications MUST define a maximum total lifetime"."""
    cases = [case for case in COMMITS if adds_for_ever(case)]
    assert cases
    for case in cases:
        _, group = join(case, maximum_lifetime=3600)
        hub = observe(group, maximum_lifetime=3600)
        *before, last = case["epochs"]
        for epoch in before:
            commit = bytes.fromhex(epoch["commit"])
            hub.merge(hub.stage_commit(commit))
            group.process(commit)
        for proposal in map(bytes.fromhex, last["proposals"]):
            group.process(proposal)
            hub.add_proposal(proposal)
        context = hub.group_context()
        with pytest.raises(InvalidProposal, match="valid for too long"):
            group.process(bytes.fromhex(last["commit"]))
        with pytest.raises(InvalidProposal, match="valid for too long"):
            hub.stage_commit(bytes.fromhex(last["commit"]))
        assert hub.group_context() == group.group_context() == context
