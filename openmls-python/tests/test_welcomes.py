"""Looking into a Welcome before it is used."""

import pytest

from openmls import CannotDecrypt, Client, MalformedMessage, MlsError, NotAllowed
from support import GROUP_ID, Room, uri

TOPIC = 0x8001


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={TOPIC: b"chess"})
    room.add("bob")
    return room


@pytest.mark.parametrize("inside", [True, False], ids=["tree inside", "tree apart"])
def test_a_preview_shows_who_invites_to_what_and_uses_nothing_up(room: Room, inside: bool) -> None:
    carol = room.client("carol")
    bundle = room.groups["bob"].commit(add=[room.key_package("carol")], ratchet_tree_extension=inside)
    room.accept(bundle, "bob")
    tree = None if inside else bundle.ratchet_tree
    assert bundle.welcome is not None
    before = carol.save()
    for _ in range(2):
        preview = carol.preview_welcome(welcome=bundle.welcome, ratchet_tree=tree)
        assert (preview.group_id, preview.epoch, preview.ciphersuite) == (GROUP_ID, 2, 1)
        assert preview.own_leaf_index == 2
        assert (preview.sender.leaf_index, preview.sender.identity) == (1, uri("bob"))
        assert preview.members == room.hub.members()
        assert preview.app_data == {TOPIC: b"chess"}
        assert repr(preview) == "<WelcomePreview 6d696d69 epoch=2 members=3>"
    assert carol.save() == before
    with pytest.raises(MlsError):
        carol.group(GROUP_ID)
    room.groups["carol"] = carol.join_welcome(welcome=bundle.welcome, ratchet_tree=tree)
    room.talk()
    with pytest.raises(CannotDecrypt):  # now the key package is used up
        carol.preview_welcome(welcome=bundle.welcome, ratchet_tree=tree)


def test_what_could_not_be_joined_is_not_previewed(room: Room) -> None:
    carol = room.client("carol")
    bundle = room.groups["bob"].commit(add=[room.key_package("carol")])
    assert bundle.welcome is not None
    before = carol.save()
    with pytest.raises(NotAllowed):
        carol.preview_welcome(welcome=bundle.welcome, ratchet_tree=None)
    with pytest.raises(MlsError):
        carol.preview_welcome(welcome=bundle.welcome, ratchet_tree=room.tree)
    with pytest.raises(MalformedMessage):
        carol.preview_welcome(welcome=bundle.welcome + b"\x00", ratchet_tree=bundle.ratchet_tree)
    with pytest.raises(CannotDecrypt):
        Client.create(identity=uri("dave")).preview_welcome(
            welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
        )
    assert carol.save() == before
