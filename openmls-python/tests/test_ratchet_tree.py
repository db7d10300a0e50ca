"""Looking into a ratchet tree without a group."""

import pytest

from forge import Reader, vector
from openmls import MalformedMessage, NotAllowed, PublicGroup, group_info_details, inspect_ratchet_tree
from support import TREES, Room, TreeVector, tree_name


def test_the_tree_of_a_room_has_the_hash_of_its_group_info(room: Room) -> None:
    for names in (("bob",), ("carol", "dave", "erin"), ("frank",)):
        room.add(*names)
        info = inspect_ratchet_tree(room.tree, ciphersuite=1)
        assert info.tree_hash == group_info_details(room.group_info).tree_hash
        assert info.leaves == tuple(member.leaf_index for member in room.hub.members())
    room.accept(room.groups["alice"].commit(remove=[1, 3]), "alice")
    info = inspect_ratchet_tree(room.tree, ciphersuite=1)
    assert info.leaves == (0, 2, 4, 5)
    assert info.tree_hash == group_info_details(room.group_info).tree_hash
    assert repr(info) == "<RatchetTreeInfo leaves=4>"


@pytest.mark.parametrize("case", TREES, ids=tree_name)
def test_official_trees_have_their_official_hash(case: TreeVector) -> None:
    info = inspect_ratchet_tree(bytes.fromhex(case["tree"]), ciphersuite=case["cipher_suite"])
    hashes = case["tree_hashes"]
    assert info.tree_hash.hex() == hashes[len(hashes) // 2]


def test_what_is_no_tree_is_malformed(room: Room) -> None:
    room.add("bob", "carol")
    nodes = Reader(room.tree).vector()
    parent_first = b"\x01\x02" + vector(b"key") + vector(b"") + vector(b"")
    for damaged in (
        b"",
        vector(b""),
        vector(nodes + b"\x00"),  # blank at the end
        vector(b"\x00"),
        vector(b"\x00" + nodes),  # everything in the place of its neighbour
        vector(parent_first),
        vector(b"\x02" + nodes),
        room.tree[:-1],
        room.tree + b"\x00",
        nodes,
    ):
        with pytest.raises(MalformedMessage):
            inspect_ratchet_tree(damaged, ciphersuite=1)
    with pytest.raises(NotAllowed):
        inspect_ratchet_tree(room.tree, ciphersuite=0xF000)


def test_a_changed_node_changes_the_hash(room: Room) -> None:
    room.add("bob", "carol")
    honest = inspect_ratchet_tree(room.tree, ciphersuite=1).tree_hash
    position = room.tree.index(room.hub.members()[1].signature_key)
    changed = room.tree[:position] + bytes([room.tree[position] ^ 1]) + room.tree[position + 1 :]
    assert inspect_ratchet_tree(changed, ciphersuite=1).tree_hash != honest
    assert PublicGroup.observe(group_info=room.group_info, ratchet_tree=room.tree).epoch == 1
