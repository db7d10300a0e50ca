"""A group with members of two implementations, ours and mls-rs, observed by a `PublicGroup`.

The wheel of mls-rs has no types, so what comes from it is `Any`; everything crosses over as bytes.
"""

import time
from typing import Any

import pytest

from openmls import Client, Group, PublicGroup, StagedCommit

mls_rs: Any = pytest.importorskip("mls_rs_uniffi", reason="mls-rs publishes no wheel for this platform")

GROUP_ID = b"mixed"
WEEK = 7 * 24 * 3600
KEY_PACKAGE_HEADER = bytes([0, 1, 0, 5])  # ProtocolVersion mls10, WireFormat mls_key_package


def message(data: bytes) -> Any:
    """Hand bytes to mls-rs."""
    return mls_rs.Message.from_bytes(data)


def peer_client(name: bytes, *, tree_inside: bool) -> Any:
    """A client of mls-rs in suite 0x0001, which puts trees into its Welcomes or leaves them out."""
    config = mls_rs.client_config_default()
    config.use_ratchet_tree_extension = tree_inside
    keys = mls_rs.generate_signature_keypair(mls_rs.CipherSuite.CURVE25519_AES128)
    return mls_rs.Client(name, keys, config)


class Mixed:
    """Begins with the mls-rs members bob (who created the group) and carol, and our alice, whom bob added."""

    def __init__(self, *, tree_inside: bool) -> None:
        self.now = int(time.time())
        self.peers: dict[str, Any] = {}
        self.clients: dict[str, Client] = {}
        self.ours: dict[str, Group] = {}
        bob, carol = (peer_client(name, tree_inside=tree_inside) for name in (b"bob", b"carol"))
        self.peers["bob"] = bob.create_group(GROUP_ID)
        output = self.peers["bob"].add_members([carol.generate_key_package_message()])
        self.peers["bob"].process_incoming_message(output.commit_message)
        self.peers["carol"] = carol.join_group(output.ratchet_tree, output.welcome_message).group

        output = self.peers["bob"].add_members([message(KEY_PACKAGE_HEADER + self.key_package("alice"))])
        for peer in self.peers.values():
            peer.process_incoming_message(output.commit_message)
        assert (output.ratchet_tree is None) == tree_inside
        self.join("alice", output)
        group_info, tree = self.ours["alice"].group_info()
        self.hub = PublicGroup.observe(group_info=group_info, ratchet_tree=tree)
        self.check()

    def key_package(self, name: str) -> bytes:
        """Make our client ``name`` and a key package of it."""
        self.clients[name] = Client.create(identity=name.encode())
        return self.clients[name].key_package(now=self.now, lifetime=WEEK)

    def join(self, name: str, output: Any) -> None:
        """Let our client join by a Welcome of mls-rs, with the tree where mls-rs put it."""
        tree = output.ratchet_tree and output.ratchet_tree.bytes
        self.ours[name] = self.clients[name].join_welcome(
            welcome=output.welcome_message.to_bytes(), ratchet_tree=tree
        )

    def leaf(self, name: str) -> int:
        return next(member.leaf_index for member in self.hub.members() if member.identity == name.encode())

    def identity(self, name: str) -> Any:
        """The SigningIdentity of one of ours, which mls-rs gives only with what that member sends."""
        return self.peers["bob"].process_incoming_message(message(self.ours[name].encrypt(b""))).sender

    def propose(self, proposal: bytes, sender: str) -> None:
        """Let the hub and everybody but its sender take a proposal."""
        self.hub.add_proposal(proposal)
        for name, group in self.ours.items():
            if name != sender:
                assert group.process(proposal).kind == "proposal"
        for name, peer in self.peers.items():
            if name != sender:
                assert peer.process_incoming_message(message(proposal)).is_received_proposal()

    def commit(self, commit: bytes, committer: str) -> StagedCommit:
        """Let the hub and everybody take a commit; who is removed by it leaves."""
        staged = self.hub.stage_commit(commit)
        self.hub.merge(staged)
        gone = {member.identity.decode() for member in staged.removed}
        gone -= {member.identity.decode() for member in staged.added}  # who rejoined, by a new handle
        for name, group in list(self.ours.items()):
            if name == committer:
                group.merge_pending_commit()
                continue
            processed = group.process(commit)
            assert (processed.added, processed.removed) == (staged.added, staged.removed)
            assert processed.self_removed == (name in gone)
            if name in gone:
                del self.ours[name]
        for name, peer in list(self.peers.items()):
            effect = peer.process_incoming_message(message(commit)).effect
            assert effect.is_removed() == (name in gone)
            if name in gone:
                del self.peers[name]
        self.check()
        return staged

    def check(self) -> None:
        """Everybody is in the same epoch of the same group.

        mls-rs shows no GroupContext; its exporter secret depends on all of it (RFC 9420 section 8).
        """
        secrets = set()
        for group in self.ours.values():
            assert group.group_context() == self.hub.group_context()
            assert group.epoch == self.hub.epoch
            secrets.add(group.export_secret(label="test", context=b"context", length=32))
        for peer in self.peers.values():
            assert peer.export_tree().bytes == self.hub.export_ratchet_tree()
            secrets.add(peer.export_secret(b"test", b"context", 32))
        assert len(secrets) == 1

    def talk(self) -> None:
        """Everybody says something that everybody else reads."""
        for speaker, group in self.ours.items():
            said = group.encrypt(b"we are " + speaker.encode(), aad=b"readable by the hub")
            self.heard(said, speaker)
        for speaker, peer in self.peers.items():
            said = peer.encrypt_application_message(b"we are " + speaker.encode()).to_bytes()
            self.heard(said, speaker)

    def heard(self, said: bytes, speaker: str) -> None:
        """Everybody but the speaker decrypts a message and sees who sent it."""
        for name, group in self.ours.items():
            if name != speaker:
                processed = group.process(said)
                assert processed.plaintext == b"we are " + speaker.encode()
                assert processed.sender_identity == speaker.encode()
        for name, peer in self.peers.items():
            if name != speaker:
                received = peer.process_incoming_message(message(said))
                assert received.is_application_message()
                assert received.data == b"we are " + speaker.encode()
