"""What a hub is told of a proposal: who sent it, how, and what it says."""

import pytest

import openmls
from forge import (
    BY_REFERENCE,
    BY_VALUE,
    NEW_MEMBER_PROPOSAL,
    Forgery,
    Reader,
    extension_vector,
    external,
    proposal_message,
    vector,
)
from openmls import Client, InvalidProposal, InvalidSignature, MalformedMessage, NotAllowed, ProposalInfo
from support import GROUP_ID, Room, uri

COMPONENT = 0x8001
ADD, UPDATE, REMOVE, PSK, REINIT, EXTERNAL_INIT, EXTENSIONS = range(1, 8)
APP_DATA_UPDATE, APP_EPHEMERAL, CUSTOM = 8, 9, 0xF123
CONTENT = (
    "removed_leaf",
    "key_package",
    "key_package_reference",
    "updated",
    "component_id",
    "operation",
    "payload",
    "psk",
    "psk_id",
    "reinit_group_id",
    "reinit_version",
    "reinit_ciphersuite",
    "extensions",
)


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={COMPONENT: b"state"})
    room.add("bob", "carol")
    return room


def typed(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + body


def member(leaf: int) -> bytes:
    return b"\x01" + leaf.to_bytes(4, "big")


def proposed(room: Room, name: str, proposal: bytes) -> bytes:
    """A proposal of a member that the hub takes; members would miss the tag."""
    return proposal_message(
        room.clients[name],
        member(room.leaf(name)),
        proposal,
        group_id=GROUP_ID,
        epoch=room.hub.epoch,
        group_context=room.hub.group_context(),
    )


def content(info: ProposalInfo) -> dict[str, object]:
    """What a proposal says, without what its kind has no use for."""
    return {name: getattr(info, name) for name in CONTENT if getattr(info, name) is not None}


def committed(room: Room, committer: str, *proposals: bytes, shape: tuple[int, ...] = ()) -> bytes:
    """A commit of exactly these proposals, each with its ProposalOrRef type.

    The update path is that of a commit that removes the leaves in ``shape``.
    """
    forgery = Forgery.read(room.groups[committer].commit(remove=shape).commit)
    room.groups[committer].clear_pending_commit()
    forgery.proposals = b"".join(proposals)
    return forgery.sign(room.clients[committer], room.hub.group_context())


def test_a_commit_tells_all_its_proposals_in_order(room: Room) -> None:
    room.client("dave")
    package = room.key_package("dave")
    taken = room.hub.add_proposal(room.groups["carol"].propose_self_remove())
    data = {COMPONENT: b"new"}
    update = typed(APP_DATA_UPDATE, COMPONENT.to_bytes(2, "big") + b"\x01" + vector(b"+"))
    forgery = Forgery.read(room.groups["bob"].commit(add=[package], remove=[2]).commit)
    forgery.proposals = b"".join(
        (
            BY_VALUE + typed(ADD, package),
            BY_REFERENCE + vector(taken.reference or b""),
            BY_VALUE + update,
        )
    )
    message = forgery.sign(room.clients["bob"], room.hub.group_context())
    staged = room.hub.stage_commit(message, new_app_data=data)
    add, leave, change = staged.proposals
    assert [info.kind for info in staged.proposals] == ["add", "self_remove", "app_data_update"]
    assert [info.by_reference for info in staged.proposals] == [False, True, False]
    assert [info.reference for info in staged.proposals] == [None, taken.reference, None]
    assert [(info.sender, info.sender_leaf) for info in staged.proposals] == [
        ("member", 1),
        ("member", 2),
        ("member", 1),
    ]
    assert content(add) == {
        "key_package": package,
        "key_package_reference": openmls.key_package_reference(package),
    }
    assert content(leave) == {"removed_leaf": 2}
    assert content(change) == {"component_id": COMPONENT, "operation": "update", "payload": b"+"}
    assert staged.proposal_kinds == ("add", "self_remove", "app_data_update")
    assert staged.unused_proposals == ()


def test_an_external_commit_tells_its_proposals_with_the_joiner_as_sender(room: Room) -> None:
    _, bundle = Client.create(identity=uri("bob")).join_external(
        group_info=room.group_info, ratchet_tree=room.tree, replace_leaf=1
    )
    staged = room.hub.stage_commit(bundle.commit)
    assert {info.kind: content(info) for info in staged.proposals} == {
        "external_init": {},
        "remove": {"removed_leaf": 1},
    }
    assert {(info.sender, info.sender_leaf) for info in staged.proposals} == {("new_member_commit", None)}


def test_a_removal_of_a_component_has_no_payload(room: Room) -> None:
    removal = typed(APP_DATA_UPDATE, COMPONENT.to_bytes(2, "big") + b"\x02")
    staged = room.hub.stage_commit(committed(room, "bob", BY_VALUE + removal))
    assert content(staged.proposals[0]) == {"component_id": COMPONENT, "operation": "remove"}


def test_stored_proposals_that_a_commit_leaves_out_are_told_with_their_senders(room: Room) -> None:
    taken = room.hub.add_proposal(room.groups["carol"].propose_self_remove())
    by_member = room.hub.add_proposal(room.groups["bob"].propose_remove(0))
    by_hub = room.hub.add_proposal(room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=2))
    commit = committed(room, "alice", BY_REFERENCE + vector(taken.reference or b""), shape=(2,))
    staged = room.hub.stage_commit(commit)
    assert [info.reference for info in staged.proposals] == [taken.reference]
    assert [
        (info.reference, info.sender, info.sender_leaf, info.external_sender, info.removed_leaf)
        for info in staged.unused_proposals
    ] == [
        (by_member.reference, "member", 1, None, 0),
        (by_hub.reference, "external", None, 0, 2),
    ]
    assert len(room.hub.proposals()) == 3
    room.hub.merge(staged)
    assert room.hub.proposals() == ()


def test_a_client_may_ask_to_be_added_and_is_by_a_commit_of_a_member(room: Room) -> None:
    dave = room.client("dave")
    package = room.key_package("dave")
    asked = proposal_message(
        dave, NEW_MEMBER_PROPOSAL, typed(ADD, package), group_id=GROUP_ID, epoch=room.hub.epoch
    )
    info = room.hub.add_proposal(asked)
    assert (info.sender, info.sender_leaf, info.external_sender) == ("new_member_proposal", None, None)
    assert info.key_package == package
    for group in room.groups.values():
        processed = group.process(asked).proposal
        assert processed is not None
        assert processed.sender == "new_member_proposal"
    bundle = room.groups["alice"].commit()
    staged = room.accept(bundle, "alice")
    assert [added.identity for added in staged.added] == [uri("dave")]
    assert staged.proposals[0].reference == info.reference
    assert bundle.welcome is not None
    room.groups["dave"] = dave.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    room.talk()


def test_a_client_cannot_ask_for_somebody_else(room: Room) -> None:
    """RFC 9420 section 12.1.8: the signature key of the key package verifies the proposal."""
    room.client("dave")
    mallory = Client.create(identity=uri("mallory"))
    asked = proposal_message(
        mallory,
        NEW_MEMBER_PROPOSAL,
        typed(ADD, room.key_package("dave")),
        group_id=GROUP_ID,
        epoch=room.hub.epoch,
    )
    with pytest.raises(InvalidSignature):
        room.hub.add_proposal(asked)


@pytest.mark.parametrize(
    ("kind", "body"),
    [(REMOVE, bytes(4)), (APP_DATA_UPDATE, COMPONENT.to_bytes(2, "big") + b"\x02")],
    ids=["remove", "app_data_update"],
)
def test_a_client_outside_can_ask_for_nothing_but_to_be_added(room: Room, kind: int, body: bytes) -> None:
    asked = proposal_message(
        Client.create(identity=uri("dave")),
        NEW_MEMBER_PROPOSAL,
        typed(kind, body),
        group_id=GROUP_ID,
        epoch=room.hub.epoch,
    )
    before = room.hub.save()
    with pytest.raises((NotAllowed, InvalidProposal, openmls.InvalidCommit)):
        room.hub.add_proposal(asked)
    assert room.hub.save() == before


def update_leaf(room: Room, name: str) -> tuple[bytes, bytes]:
    """A LeafNode for an Update proposal, and its encryption key."""
    leaf = Forgery.read(room.groups[name].commit().commit).leaf
    unsigned = (
        vector(leaf.encryption_key)
        + vector(leaf.signature_key)
        + leaf.credential
        + leaf.capabilities
        + b"\x02"  # leaf_node_source update
        + vector(leaf.extensions)
    )
    position = vector(GROUP_ID) + room.leaf(name).to_bytes(4, "big")
    signature = room.clients[name].sign_with_label(label="LeafNodeTBS", content=unsigned + position)
    return unsigned + vector(signature), leaf.encryption_key


def test_an_update_shows_the_new_leaf(now: int) -> None:
    room = Room(now=now)
    room.add("bob")
    leaf, encryption_key = update_leaf(room, "bob")
    info = room.hub.add_proposal(proposed(room, "bob", typed(UPDATE, leaf)))
    assert info.kind == "update"
    assert info.updated is not None
    assert (info.updated.leaf_index, info.updated.identity) == (1, uri("bob"))
    assert info.updated.encryption_key == encryption_key

    # Alice cannot see through the tag of the proposal, so her path is made to fit the new leaf: the parent of
    # both leaves is the root, whose parent hash (RFC 9420 section 7.9) has the tree hash of bob's leaf in it.
    forgery = Forgery.read(room.groups["alice"].commit().commit)
    sibling = openmls.hash(1, b"\x01" + (1).to_bytes(4, "big") + b"\x01" + leaf)
    root_key = Reader(forgery.path).vector()
    forgery.leaf.parent_hash = openmls.hash(1, vector(root_key) + vector(b"") + vector(sibling))
    forgery.leaf.sign(room.clients["alice"], GROUP_ID, 0)
    forgery.proposals = BY_REFERENCE + vector(info.reference or b"")
    commit = forgery.sign(room.clients["alice"], room.hub.group_context())
    staged = room.hub.stage_commit(commit)
    assert staged.updated == (info.updated,)
    assert staged.members[1] == info.updated
    assert staged.proposals[0].updated == info.updated
    room.hub.merge(staged)
    assert room.hub.member(1) == info.updated
    assert room.hub.members() == staged.members


def test_pre_shared_keys_extensions_and_reinits_show_their_fields(room: Room) -> None:
    psk = b"\x01" + vector(b"which") + vector(bytes(32))
    extensions = room.hub.extensions()
    group_context_extensions = typed(EXTENSIONS, extension_vector(extensions))
    commit = committed(room, "bob", BY_VALUE + typed(PSK, psk), BY_VALUE + group_context_extensions)
    first, second = room.hub.stage_commit(commit).proposals
    assert (first.kind, second.kind) == ("psk", "group_context_extensions")
    assert content(first) == {"psk": psk, "psk_id": b"which"}
    assert content(second) == {"extensions": extensions}
    assert list(second.extensions or {}) == list(extensions)

    resumption = b"\x02\x01" + vector(GROUP_ID) + bytes(8) + vector(bytes(32))
    info = room.hub.stage_proposal(proposed(room, "bob", typed(PSK, resumption)))
    assert content(info) == {"psk": resumption}

    application = b"\x03" + COMPONENT.to_bytes(2, "big") + vector(b"id") + vector(bytes(32))
    info = room.hub.stage_proposal(proposed(room, "bob", typed(PSK, application)))
    assert content(info) == {"psk": application}

    reinit = vector(b"next") + b"\x00\x01\x00\x02" + extension_vector(extensions)
    info = room.hub.stage_proposal(proposed(room, "bob", typed(REINIT, reinit)))
    assert content(info) == {
        "reinit_group_id": b"next",
        "reinit_version": 1,
        "reinit_ciphersuite": 2,
        "extensions": extensions,
    }


def test_ephemeral_data_and_custom_proposals_show_their_payload(room: Room) -> None:
    ephemeral = typed(APP_EPHEMERAL, COMPONENT.to_bytes(2, "big") + vector(b"now"))
    info = room.hub.stage_proposal(proposed(room, "bob", ephemeral))
    assert info.kind == "app_ephemeral"
    assert content(info) == {"component_id": COMPONENT, "payload": b"now"}
    info = room.hub.stage_proposal(proposed(room, "bob", typed(CUSTOM, vector(b"anything"))))
    assert info.kind == "custom_f123"
    assert content(info) == {"payload": b"anything"}
    staged = room.hub.stage_commit(committed(room, "bob", BY_VALUE + ephemeral))
    assert [proposal.kind for proposal in staged.proposals] == ["app_ephemeral"]
    with pytest.raises(InvalidProposal):  # our members do not announce it
        room.hub.stage_commit(committed(room, "bob", BY_VALUE + typed(CUSTOM, vector(b"anything"))))


def test_the_reference_of_a_proposal_is_known_without_a_group(room: Room) -> None:
    room.client("dave")
    messages = [
        room.groups["bob"].propose_remove(2),
        room.groups["carol"].propose_self_remove(),
        room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=2),
        room.hub.propose_app_data_update(
            signer=room.hub_key, sender_index=0, component_id=COMPONENT, payload=b"+"
        ),
        proposal_message(
            room.clients["dave"],
            NEW_MEMBER_PROPOSAL,
            typed(ADD, room.key_package("dave")),
            group_id=GROUP_ID,
            epoch=room.hub.epoch,
        ),
    ]
    for message in messages:
        expected = room.hub.add_proposal(message).reference
        assert openmls.proposal_reference(message, ciphersuite=1) == expected
        assert openmls.proposal_reference(message, ciphersuite=2) == expected  # both hash with SHA-256
        for damaged in (message + b"\x00", message[:-1], message[1:], b""):
            with pytest.raises(MalformedMessage):
                openmls.proposal_reference(damaged, ciphersuite=1)
    with pytest.raises(MalformedMessage):
        openmls.proposal_reference(room.groups["alice"].commit().commit, ciphersuite=1)
    with pytest.raises(NotAllowed):
        openmls.proposal_reference(messages[0], ciphersuite=0xF000)


def test_only_what_is_external_has_an_external_sender(room: Room) -> None:
    forged = proposal_message(
        room.hub_key, external(7), typed(REMOVE, bytes(4)), group_id=GROUP_ID, epoch=room.hub.epoch
    )
    with pytest.raises(NotAllowed):
        room.hub.add_proposal(forged)


def test_a_proposal_shows_itself_briefly(room: Room) -> None:
    stored = room.hub.add_proposal(room.groups["bob"].propose_remove(2))
    assert repr(stored) == f"<ProposalInfo remove {(stored.reference or b'').hex()[:8]}>"
    staged = room.hub.stage_commit(room.groups["alice"].commit(remove=[2]).commit)
    assert repr(staged.proposals[0]) == "<ProposalInfo remove>"
