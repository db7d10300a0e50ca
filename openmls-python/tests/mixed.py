"""A group with members of two implementations, ours and another, observed by a `PublicGroup` all the way."""

import time
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from openmls import Client, CommitBundle, Group, PublicGroup, SignatureKeyPair, StagedCommit
from peers import EXPORTED, Peer

GROUP_ID = b"mixed"
WEEK = 7 * 24 * 3600
YEAR = 366 * 24 * 3600  # what mls-rs gives its key packages, and an hour or so more
KEY_PACKAGE_HEADER = bytes([0, 1, 0, 5])  # ProtocolVersion mls10, WireFormat mls_key_package
GROUP_INFO_HEADER = bytes([0, 1, 0, 4])  # and mls_group_info
SPOKEN = b"this is "

PeerT = TypeVar("PeerT", bound=Peer)


class Mixed(Generic[PeerT]):
    """Begins with our alice and the peers bob and carol; alice or bob created the group and added the rest.

    A plain group asks nothing of its members that RFC 9420 does not. Everything passes the hub first.
    Whatever a commit leads to, all must agree on it.
    """

    def __init__(
        self,
        make_peer: Callable[[str], PeerT],
        *,
        created_by: Literal["us", "peer"],
        plain: bool,
        suite: int = 1,
        maximum_lifetime: int = YEAR,
    ) -> None:
        self.suite = suite
        self.maximum_lifetime = maximum_lifetime
        self.now = int(time.time())
        self.make_peer = make_peer
        self.peers: dict[str, PeerT] = {}
        self.clients: dict[str, Client] = {}
        self.ours: dict[str, Group] = {}
        self.hub_key = SignatureKeyPair.generate(ciphersuite=suite)
        if created_by == "us":
            self._created_by_us(plain=plain)
        else:
            self._created_by_bob()
        self.check()

    def _created_by_us(self, *, plain: bool) -> None:
        alice = self.client("alice")
        self.ours["alice"] = alice.create_group(
            group_id=GROUP_ID,
            external_senders=[(self.hub_key.public_key, b"hub")],
            required_capabilities=not plain,
        )
        group_info, tree = self.ours["alice"].group_info()
        self.hub = self.observe(group_info, tree)
        self.add_peers("bob", "carol")

    def _created_by_bob(self) -> None:
        bob, carol = self.make_peer("bob"), self.make_peer("carol")
        self.peers["bob"] = bob
        bob.create_group(GROUP_ID)
        group_info = bob.group_info()
        if group_info is not None:
            self.hub = self.observe(group_info, bob.tree())
        sent = bob.add(carol.key_package())
        bob.merge(sent.commit)
        assert sent.welcome is not None
        carol.join(sent.welcome, sent.tree)
        self.peers["carol"] = carol
        if group_info is not None:
            self.hub.merge(self.hub.stage_commit(sent.commit))

        sent = bob.add(self.key_package("alice"))
        bob.merge(sent.commit)
        carol.process(sent.commit, "bob")
        assert sent.welcome is not None
        self.join("alice", sent.welcome, sent.tree)
        if group_info is not None:
            self.hub.merge(self.hub.stage_commit(sent.commit))
        else:  # whoever shows no GroupInfo is observed from here on
            begin, tree = self.ours["alice"].group_info()
            self.hub = self.observe(begin, tree)

    def observe(self, group_info: bytes, tree: bytes | None) -> PublicGroup:
        return PublicGroup.observe(
            group_info=group_info,
            ratchet_tree=tree,
            now=int(time.time()),  # later than `self.now`: leaves of peers begin when they are made
            maximum_lifetime=self.maximum_lifetime,
        )

    def client(self, name: str) -> Client:
        """Make our client ``name``, which is in no group yet."""
        self.clients[name] = Client.create(
            identity=name.encode(), ciphersuite=self.suite, maximum_lifetime=self.maximum_lifetime
        )
        return self.clients[name]

    def key_package(self, name: str) -> bytes:
        """Make our client ``name`` and a key package of it, in the form that peers take."""
        return KEY_PACKAGE_HEADER + self.client(name).key_package(now=self.now, lifetime=WEEK)

    def join(self, name: str, welcome: bytes, tree: bytes | None) -> None:
        self.ours[name] = self.clients[name].join_welcome(welcome=welcome, ratchet_tree=tree)

    def leaf(self, name: str) -> int:
        return next(member.leaf_index for member in self.hub.members() if member.identity == name.encode())

    def add_peers(self, *names: str) -> CommitBundle:
        """Let alice add peers, who join by her Welcome."""
        joiners = [self.make_peer(name) for name in names]
        bundle = self.ours["alice"].commit(add=[peer.key_package() for peer in joiners])
        self.commit(bundle.commit, "alice")
        assert bundle.welcome is not None
        for peer in joiners:
            peer.join(bundle.welcome, bundle.ratchet_tree)
            self.peers[peer.name] = peer
        self.check()
        return bundle

    def propose(self, proposal: bytes, sender: str) -> None:
        """Let the hub and everybody but its sender take a proposal."""
        self.hub.add_proposal(proposal)
        for name, group in self.ours.items():
            if name != sender:
                assert group.process(proposal).kind == "proposal"
        for name, peer in self.peers.items():
            if name != sender:
                peer.process(proposal, sender)

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
            if name == committer:
                peer.merge(commit)
                continue
            assert peer.process(commit, committer).removed == (name in gone)
            if name in gone:
                del self.peers[name]
        self.check()
        return staged

    def check(self) -> None:
        """Everybody is in the same epoch of the same group.

        A peer that does not show its GroupContext has an exporter secret that depends on all of it (RFC 9420
        section 8).
        """
        label, context, length = EXPORTED
        secrets = set()
        for group in self.ours.values():
            assert group.group_context() == self.hub.group_context()
            assert group.epoch == self.hub.epoch
            assert group.members() == self.hub.members()
            secrets.add(group.export_secret(label=label, context=context, length=length))
        for peer in self.peers.values():
            assert peer.tree() == self.hub.export_ratchet_tree()
            assert peer.group_context() in {None, self.hub.group_context()}
            secrets.add(peer.exported())
        assert len(secrets) == 1

    def talk(self) -> None:
        """Everybody says something that everybody else reads."""
        for speaker, group in self.ours.items():
            self.heard(group.encrypt(SPOKEN + speaker.encode(), aad=b"readable by the hub"), speaker)
        for speaker, peer in self.peers.items():
            self.heard(peer.encrypt(SPOKEN + speaker.encode()), speaker)

    def heard(self, said: bytes, speaker: str) -> None:
        """Everybody but the speaker decrypts a message, and we see who sent it."""
        for name, group in self.ours.items():
            if name != speaker:
                processed = group.process(said)
                assert processed.plaintext == SPOKEN + speaker.encode()
                assert processed.sender_identity == speaker.encode()
                assert processed.sender_leaf == self.leaf(speaker)
        for name, peer in self.peers.items():
            if name != speaker:
                assert peer.process(said, speaker).plaintext == SPOKEN + speaker.encode()
