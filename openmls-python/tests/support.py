"""A hub and its clients in one process: every commit passes the hub first, and all must agree after it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from openmls import Client, CommitBundle, Group, ProposalInfo, PublicGroup, SignatureKeyPair, StagedCommit

GROUP_ID = b"mimi://hub.example/g/clubhouse"
WEEK = 7 * 24 * 3600
NO_DATA: Mapping[int, bytes] = {}
SUITES = (1, 2, 3, 7, 0x4D)


class TreeVector(TypedDict):
    """One official tree; hexadecimal, tree hashes by node index."""

    cipher_suite: int
    group_id: str
    tree: str
    tree_hashes: list[str]


TREES: list[TreeVector] = json.loads(
    (Path(__file__).parent / "vectors" / "tree-validation.json").read_text()
)["cases"]


def tree_name(case: TreeVector) -> str:
    return f"suite {case['cipher_suite']}, {len(case['tree_hashes'])} nodes"


def uri(name: str) -> bytes:
    """Client URI of the only device of ``name``."""
    return f"mimi://{name}.example/d/{name}/1".encode()


class Room:
    """Keeps clients and the hub's `PublicGroup` in step and asserts that they agree in every epoch."""

    def __init__(self, *, now: int, app_data: Mapping[int, bytes] = NO_DATA, ciphersuite: int = 1) -> None:
        self.now = now
        self.ciphersuite = ciphersuite
        self.hub_key = SignatureKeyPair.generate(ciphersuite=ciphersuite)
        self.clients: dict[str, Client] = {}
        self.groups: dict[str, Group] = {}
        alice = self.client("alice")
        self.groups["alice"] = alice.create_group(
            group_id=GROUP_ID, app_data=app_data, external_senders=[(self.hub_key.public_key, b"hub.example")]
        )
        group_info, tree = self.groups["alice"].group_info()
        self.hub = PublicGroup.observe(group_info=group_info, ratchet_tree=tree, now=now)
        self.group_info = group_info
        self.tree = tree

    def client(self, name: str) -> Client:
        """Make a client that is not in the room yet."""
        self.clients[name] = Client.create(identity=uri(name), ciphersuite=self.ciphersuite)
        return self.clients[name]

    def key_package(self, name: str) -> bytes:
        return self.clients[name].key_package(now=self.now, lifetime=WEEK)

    def leaf(self, name: str) -> int:
        return next(member.leaf_index for member in self.hub.members() if member.identity == uri(name))

    def accept(
        self, bundle: CommitBundle, committer: str, new_app_data: Mapping[int, bytes] = NO_DATA
    ) -> StagedCommit:
        """Let the hub take a commit, its committer merge it and everybody else process it."""
        staged = self.hub.stage_commit(bundle.commit, new_app_data=new_app_data)
        self.hub.verify_group_info(staged=staged, group_info=bundle.group_info)
        self.hub.merge(staged)
        self.groups[committer].merge_pending_commit()
        for name, group in list(self.groups.items()):
            if name != committer:
                processed = group.process(bundle.commit, new_app_data=new_app_data)
                assert processed.kind == "commit"
                assert processed.added == staged.added
                assert processed.removed == staged.removed
                assert processed.sender_identity == staged.committer_identity
                if processed.self_removed:
                    assert not group.is_active
                    del self.groups[name]
        assert self.hub.members() == staged.members
        assert self.hub.app_data() == staged.app_data
        assert self.hub.group_context() == staged.group_context
        assert self.hub.export_ratchet_tree() == bundle.ratchet_tree
        self.group_info, self.tree = bundle.group_info, bundle.ratchet_tree
        self.check()
        return staged

    def check(self) -> None:
        """Everybody is in the same state, and can read everybody."""
        for group in self.groups.values():
            assert group.group_context() == self.hub.group_context()
            assert group.members() == self.hub.members()
            assert group.epoch == self.hub.epoch
            assert group.is_active

    def add(self, *names: str, by: str = "alice") -> StagedCommit:
        """Add new clients with one commit and let them join by its Welcome."""
        for name in names:
            self.client(name)
        bundle = self.groups[by].commit(add=[self.key_package(name) for name in names])
        staged = self.accept(bundle, by)
        assert bundle.welcome is not None
        for name in names:
            self.groups[name] = self.clients[name].join_welcome(
                welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
            )
        self.check()
        return staged

    def join(self, name: str, replace_leaf: int | None = None) -> StagedCommit:
        """Join a new client by external commit."""
        client = self.client(name)
        group, bundle = client.join_external(
            group_info=self.group_info, ratchet_tree=self.tree, replace_leaf=replace_leaf
        )
        self.groups[name] = group
        return self.accept(bundle, name)

    def talk(self) -> None:
        """Everybody says something that everybody else reads."""
        for speaker, group in self.groups.items():
            message = group.encrypt(b"hello from " + uri(speaker), aad=b"seen by the hub")
            for listener, other in self.groups.items():
                if listener != speaker:
                    heard = other.process(message)
                    assert heard.kind == "application"
                    assert heard.plaintext == b"hello from " + uri(speaker)
                    assert heard.sender_identity == uri(speaker)
                    assert heard.sender_leaf == group.own_leaf_index
                    assert heard.aad == b"seen by the hub"
                    assert heard.epoch == group.epoch


def ref_of(proposal: ProposalInfo) -> bytes:
    """The reference of a proposal that is sent by itself."""
    assert proposal.reference is not None
    return proposal.reference
