"""The official trees, observed by a `PublicGroup`.

A vector has no private key, so nobody in it can sign the GroupInfo that tracking begins with. One of our
clients is therefore added on the right of the tree, as an Add does when all leaves are taken (RFC 9420
section 7.7); what the vector has to say (leaf signatures, parent hashes, tree hashes) stays as it is.
"""

import time
from dataclasses import dataclass

import pytest

import openmls
from forge import Reader, read_leaf, vector
from openmls import Client, MlsError, PublicGroup
from support import TREES, TreeVector, tree_name

LEAF, PARENT = 1, 2
WHOLLY_CHANGED = 15  # up to this many nodes, every one is changed; each costs verifying the whole tree
CHANGED_STEP = 7  # odd, so that leaves and parents take turns


@dataclass(slots=True)
class Tree:
    """Nodes in the order of RFC 9420 appendix C, None if blank, padded to a full tree; NodeType stripped."""

    suite: int
    nodes: list[bytes | None]

    @classmethod
    def read(cls, suite: int, data: bytes) -> "Tree":
        outer = Reader(data)
        reader = Reader(outer.vector())
        assert not outer.data
        nodes: list[bytes | None] = []
        while reader.data:
            if reader.take(1) == b"\x00":
                nodes.append(None)
            elif reader.take(1) == bytes([LEAF]):
                nodes.append(read_leaf(reader))
            else:
                nodes.append(b"".join(vector(reader.vector()) for _ in range(3)))
        width = 1
        while width < len(nodes):
            width = 2 * width + 1
        return cls(suite, nodes + [None] * (width - len(nodes)))

    def encode(self) -> bytes:
        """`optional<Node> ratchet_tree<V>` without blank nodes at its end."""
        last = max(index for index, node in enumerate(self.nodes) if node is not None)
        encoded = b""
        for index, node in enumerate(self.nodes[: last + 1]):
            kind = bytes([PARENT if index % 2 else LEAF])
            encoded += b"\x00" if node is None else b"\x01" + kind + node
        return vector(encoded)

    def extend(self, leaf: bytes) -> int:
        """Double the tree and put a leaf at the first place that is new; gives its leaf index."""
        width = len(self.nodes)
        self.nodes += [None, leaf] + [None] * (width - 1)
        return (width + 1) // 2

    def hash(self, index: int) -> bytes:
        """The tree hash of a node (RFC 9420 section 7.8)."""
        node = self.nodes[index]
        content = b"\x00" if node is None else b"\x01" + node
        if index % 2 == 0:
            return openmls.hash(self.suite, bytes([LEAF]) + (index // 2).to_bytes(4, "big") + content)
        step = ((index + 1) & -(index + 1)) // 2  # distance to both children
        below = vector(self.hash(index - step)) + vector(self.hash(index + step))
        return openmls.hash(self.suite, bytes([PARENT]) + content + below)


def signed_group_info(tree: Tree, client: Client, signer: int, group_id: bytes) -> bytes:
    """A GroupInfo of epoch 7 with nothing in it that the tree does not need."""
    root = len(tree.nodes) // 2
    transcript, tag = openmls.hash(tree.suite, b"transcript"), openmls.hash(tree.suite, b"tag")
    context = b"\x00\x01" + tree.suite.to_bytes(2, "big") + vector(group_id) + (7).to_bytes(8, "big")
    context += vector(tree.hash(root)) + vector(transcript) + vector(b"")
    signed = context + vector(b"") + vector(tag) + signer.to_bytes(4, "big")
    return signed + vector(client.sign_with_label(label="GroupInfoTBS", content=signed))


def extended(case: TreeVector) -> tuple[Tree, Client, int]:
    suite = case["cipher_suite"]
    tree = Tree.read(suite, bytes.fromhex(case["tree"]))
    client = Client.create(identity=b"added for the test", ciphersuite=suite)
    package = Reader(client.key_package(now=int(time.time()), lifetime=3600))
    package.take(4)
    package.vector()
    return tree, client, tree.extend(read_leaf(package))


@pytest.mark.parametrize("case", TREES, ids=tree_name)
def test_official_trees_are_observed_and_exported_byte_for_byte(case: TreeVector) -> None:
    original = Tree.read(case["cipher_suite"], bytes.fromhex(case["tree"]))
    assert original.encode().hex() == case["tree"]
    assert [original.hash(index).hex() for index in range(len(original.nodes))] == case["tree_hashes"]

    tree, client, leaf = extended(case)
    group_id = bytes.fromhex(case["group_id"])
    group_info = signed_group_info(tree, client, leaf, group_id)
    hub = PublicGroup.observe(group_info=group_info, ratchet_tree=tree.encode())
    assert hub.export_ratchet_tree() == tree.encode()
    assert tree.hash(len(tree.nodes) // 2) in hub.group_context()
    occupied = [index for index, node in enumerate(tree.nodes[::2]) if node is not None]
    assert [member.leaf_index for member in hub.members()] == occupied
    assert hub.group_id == group_id
    assert PublicGroup.load(hub.save()).export_ratchet_tree() == tree.encode()


@pytest.mark.parametrize("case", TREES, ids=tree_name)
def test_an_official_tree_with_any_node_changed_is_refused_though_its_tree_hash_is_right(
    case: TreeVector,
) -> None:
    step = 1 if len(case["tree_hashes"]) <= WHOLLY_CHANGED else CHANGED_STEP
    for index in range(0, len(case["tree_hashes"]), step):
        tree, client, leaf = extended(case)
        node = tree.nodes[index]
        if node is None:
            continue
        # The last octet of a leaf is of its signature; the third of a parent is of its public key.
        at = len(node) - 1 if index % 2 == 0 else 3
        tree.nodes[index] = node[:at] + bytes([node[at] ^ 1]) + node[at + 1 :]
        group_info = signed_group_info(tree, client, leaf, bytes.fromhex(case["group_id"]))
        with pytest.raises(MlsError):
            PublicGroup.observe(group_info=group_info, ratchet_tree=tree.encode())


@pytest.mark.parametrize("case", TREES, ids=tree_name)
def test_an_official_tree_is_refused_in_another_group_if_a_leaf_was_updated_there(
    case: TreeVector,
) -> None:
    # RFC 9420 section 7.2: LeafNodeTBS has group_id and leaf_index for leaf nodes made by update or commit.
    tree, client, leaf = extended(case)
    group_info = signed_group_info(tree, client, leaf, b"another group")
    with pytest.raises(MlsError):
        PublicGroup.observe(group_info=group_info, ratchet_tree=tree.encode())
