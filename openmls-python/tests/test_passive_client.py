"""The official vectors of a client that joins by a Welcome and follows, with the keys they give it.

From github.com/mlswg/mls-implementations, test-vectors/passive-client-*.json: ciphersuites 1 to 3.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from forge import Reader
from openmls import Client, Group, InvalidProposal, PskId, SignatureKeyPair

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "passive-client.json").read_text())


def identity(key_package: bytes) -> bytes:
    """The content of the basic credential in an MLSMessage(KeyPackage)."""
    reader = Reader(key_package)
    reader.take(8)
    for _ in range(3):
        reader.vector()
    assert reader.take(2) == b"\x00\x01"
    return reader.vector()


def join(case: dict[str, Any]) -> Group:
    """Take the keys over and join; they expired long ago, which does not matter any more."""
    suite = case["cipher_suite"]
    key_package = bytes.fromhex(case["key_package"])
    signature_key = SignatureKeyPair.from_bytes(bytes.fromhex(case["signature_priv"]), ciphersuite=suite)
    client = Client.create(identity=identity(key_package), ciphersuite=suite, signature_key=signature_key)
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
    return group


@pytest.mark.parametrize("case", VECTORS["welcome"])
def test_official_welcomes_are_joined(case: dict[str, Any]) -> None:
    join(case)


def follow(group: Group, epoch: dict[str, Any]) -> None:
    for proposal in epoch["proposals"]:
        group.process(bytes.fromhex(proposal))
    group.process(bytes.fromhex(epoch["commit"]))
    assert group.epoch_authenticator().hex() == epoch["epoch_authenticator"]


@pytest.mark.parametrize("number", range(7))
def test_official_commits_are_followed_unless_they_add_a_leaf_that_never_expires(number: int) -> None:
    """RFC 9420 section 7.2 wants a maximum lifetime; the last commit of four cases adds such a leaf."""
    case = VECTORS["handling_commit"][number]
    first, second = case["epochs"]
    group = join(case)
    follow(group, first)
    if number < 4:
        with pytest.raises(InvalidProposal, match="valid for too long"):
            follow(group, second)
    else:
        follow(group, second)
