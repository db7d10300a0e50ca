"""The hub as an external sender (RFC 9420 section 12.1.8): what it proposes, and what members make of it."""

from collections.abc import Callable
from typing import Any

import pytest

import openmls
from forge import (
    NEW_MEMBER_PROPOSAL,
    ForgedKeyPackage,
    Forgery,
    extension_vector,
    external,
    proposal_message,
    vector,
)
from openmls import (
    Client,
    InvalidKeyPackage,
    InvalidProposal,
    InvalidSignature,
    MlsError,
    NotAllowed,
    PublicGroup,
    SignatureKeyPair,
    UnknownGroup,
    WrongEpoch,
)
from support import GROUP_ID, WEEK, Room, ref_of, uri

COMPONENT, ABSENT, SAFE_AAD = 0x8001, 0x8002, 2
YEAR = 365 * 24 * 3600
PSK, REINIT, EXTERNAL_INIT, APP_EPHEMERAL, SELF_REMOVE = 4, 5, 6, 9, 10
REQUIRED_CAPABILITIES, EXTERNAL_SENDERS, APP_DATA_DICTIONARY = 3, 5, 6

Make = Callable[[Room, SignatureKeyPair, int], bytes]


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={COMPONENT: b"state"})
    room.add("bob", "carol")
    return room


def add(room: Room, signer: SignatureKeyPair, index: int) -> bytes:
    room.client("dave")
    return room.hub.propose_add(
        signer=signer, sender_index=index, key_package=room.key_package("dave"), now=room.now
    )


def remove(room: Room, signer: SignatureKeyPair, index: int) -> bytes:
    return room.hub.propose_remove(signer=signer, sender_index=index, leaf_index=2)


def update(room: Room, signer: SignatureKeyPair, index: int) -> bytes:
    return room.hub.propose_app_data_update(
        signer=signer, sender_index=index, component_id=COMPONENT, payload=b"+"
    )


def extensions(room: Room, signer: SignatureKeyPair, index: int) -> bytes:
    """Takes the external senders out of the group."""
    kept = {kind: data for kind, data in room.hub.extensions().items() if kind != EXTERNAL_SENDERS}
    return room.hub.propose_group_context_extensions(signer=signer, sender_index=index, extensions=kept)


def reinit(room: Room, signer: SignatureKeyPair, index: int) -> bytes:
    return room.hub.propose_reinit(
        signer=signer, sender_index=index, group_id=b"next", ciphersuite=1, extensions=room.hub.extensions()
    )


ALL = pytest.mark.parametrize("make", [add, remove, update, extensions, reinit])
TAKEN = pytest.mark.parametrize("make", [add, remove, update, extensions])


def everywhere(room: Room, message: bytes) -> openmls.ProposalInfo:
    """Let the hub and all members take a proposal."""
    info = room.hub.add_proposal(message)
    for group in room.groups.values():
        proposal = group.process(message).proposal
        assert proposal is not None
        assert (proposal.reference, proposal.sender, proposal.external_sender) == (
            info.reference,
            "external",
            0,
        )
    return info


def refused(room: Room, message: bytes, error: type[MlsError] | tuple[type[MlsError], ...]) -> None:
    """Neither hub nor members take a message, and nobody changes."""
    hub, alice = room.hub.save(), room.clients["alice"].save()
    with pytest.raises(error):
        room.hub.add_proposal(message)
    with pytest.raises(error):
        room.hub.stage_proposal(message)
    with pytest.raises(error):
        room.groups["alice"].process(message)
    assert (room.hub.save(), room.clients["alice"].save()) == (hub, alice)


@ALL
def test_only_the_listed_sender_can_propose(room: Room, make: Make) -> None:
    before = room.hub.save()
    with pytest.raises(InvalidSignature):
        make(room, SignatureKeyPair.generate(), 0)
    for index in (1, (1 << 32) - 1):
        with pytest.raises(NotAllowed):
            make(room, room.hub_key, index)
    with pytest.raises(OverflowError):
        make(room, room.hub_key, 1 << 32)
    make(room, room.hub_key, 0)
    assert room.hub.save() == before  # nothing is stored


@ALL
def test_a_group_without_external_senders_takes_none(now: int, make: Make) -> None:
    room = Room(now=now, app_data={COMPONENT: b"state"})
    room.add("bob", "carol")
    everywhere(room, extensions(room, room.hub_key, 0))
    room.accept(room.groups["alice"].commit(), "alice")
    assert EXTERNAL_SENDERS not in room.hub.extensions()
    with pytest.raises(NotAllowed):
        make(room, room.hub_key, 0)


@TAKEN
def test_what_the_hub_proposes_is_shown_as_its(room: Room, make: Make) -> None:
    info = everywhere(room, make(room, room.hub_key, 0))
    assert (info.sender, info.sender_leaf, info.external_sender) == ("external", None, 0)
    assert info.by_reference
    assert [stored.reference for stored in PublicGroup.load(room.hub.save()).proposals()] == [info.reference]


@TAKEN
def test_no_bit_of_an_external_proposal_can_be_flipped_unnoticed(room: Room, make: Make) -> None:
    message = make(room, room.hub_key, 0)
    hub, alice = room.hub.save(), room.clients["alice"].save()
    for position in range(0, len(message), 3):
        flipped = message[:position] + bytes([message[position] ^ 1]) + message[position + 1 :]
        with pytest.raises(MlsError):
            room.hub.add_proposal(flipped)
        with pytest.raises(MlsError):
            room.groups["alice"].process(flipped)
    for damaged in (message[:-1], message + b"\x00"):
        with pytest.raises(MlsError):
            room.hub.add_proposal(damaged)
        with pytest.raises(MlsError):
            room.groups["alice"].process(damaged)
    assert (room.hub.save(), room.clients["alice"].save()) == (hub, alice)


@TAKEN
def test_an_external_proposal_ends_with_its_epoch(room: Room, make: Make) -> None:
    message = make(room, room.hub_key, 0)
    room.accept(room.groups["alice"].commit(), "alice")
    refused(room, message, WrongEpoch)


def test_a_proposed_client_is_added_by_the_next_commit(room: Room) -> None:
    message = add(room, room.hub_key, 0)
    everywhere(room, message)
    bundle = room.groups["bob"].commit()
    staged = room.accept(bundle, "bob")
    assert [member.identity for member in staged.added] == [uri("dave")]
    assert staged.proposals[0].external_sender == 0
    assert bundle.welcome is not None
    room.groups["dave"] = room.clients["dave"].join_welcome(
        welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
    )
    room.talk()


@pytest.mark.parametrize("years", [-24, 14], ids=["around 2001", "around 2040"])
def test_a_proposed_client_is_judged_by_the_time_given(room: Room, years: int) -> None:
    then = room.now + years * YEAR
    package = room.client("dave").key_package(now=then, lifetime=WEEK)
    propose: dict[str, Any] = {"signer": room.hub_key, "sender_index": 0, "key_package": package}
    message = room.hub.propose_add(now=then, **propose)
    assert room.hub.stage_proposal(message, now=then).key_package == package
    for wrong in (None, room.now, then + WEEK):
        with pytest.raises(InvalidKeyPackage):
            room.hub.propose_add(now=wrong, **propose)
        with pytest.raises(InvalidProposal):
            room.hub.add_proposal(message, now=wrong)


def test_a_client_that_does_not_fit_the_group_is_not_proposed(room: Room) -> None:
    propose: dict[str, Any] = {"signer": room.hub_key, "sender_index": 0, "now": room.now}
    dave = room.client("dave")
    forged = ForgedKeyPackage.read(room.key_package("dave"))
    forged.capabilities[3] = b"\x00\x0a"  # proposals: SelfRemove, without AppDataUpdate
    with pytest.raises(InvalidProposal, match="proposal 0x0008"):
        room.hub.propose_add(key_package=forged.sign(dave), **propose)
    other = Client.create(identity=uri("dave"), ciphersuite=2).key_package(now=room.now, lifetime=WEEK)
    with pytest.raises(InvalidProposal):
        room.hub.propose_add(key_package=other, **propose)
    for nonsense in (b"", b"nonsense", room.key_package("dave")[:-1]):
        with pytest.raises(InvalidKeyPackage):
            room.hub.propose_add(key_package=nonsense, **propose)
    wrapped = b"\x00\x01\x00\x05" + room.key_package("dave")
    assert room.hub.stage_proposal(room.hub.propose_add(key_package=wrapped, **propose)).kind == "add"


def test_an_empty_leaf_is_not_proposed_for_removal(room: Room) -> None:
    for leaf in (3, 4, (1 << 32) - 1):
        with pytest.raises(InvalidProposal):
            room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=leaf)


def test_application_data_changes_by_a_proposal_of_the_hub(room: Room) -> None:
    """draft-ietf-mls-extensions: "An AppDataUpdate proposal can be sent by an external sender."."""
    message = update(room, room.hub_key, 0)
    info = everywhere(room, message)
    assert (info.component_id, info.operation, info.payload) == (COMPONENT, "update", b"+")
    room.hub = PublicGroup.load(room.hub.save())
    room.clients["alice"] = Client.load(room.clients["alice"].save())
    room.groups["alice"] = room.clients["alice"].group(GROUP_ID)
    assert [pending.payload for pending in room.groups["alice"].pending_app_data_updates()] == [b"+"]
    data = {COMPONENT: b"state+"}
    bundle = room.groups["alice"].commit(new_app_data=data)
    updates = room.hub.app_data_updates(bundle.commit)
    assert [(change.payload, change.sender_leaf) for change in updates] == [(b"+", None)]
    staged = room.accept(bundle, "alice", data)
    assert staged.app_data == data
    assert [(proposal.kind, proposal.external_sender) for proposal in staged.proposals] == [
        ("app_data_update", 0)
    ]
    room.talk()


def test_a_component_is_removed_by_a_proposal_of_the_hub(room: Room) -> None:
    propose: dict[str, Any] = {"signer": room.hub_key, "sender_index": 0, "payload": None}
    info = everywhere(room, room.hub.propose_app_data_update(component_id=COMPONENT, **propose))
    assert (info.operation, info.payload) == ("remove", None)
    staged = room.accept(room.groups["carol"].commit(), "carol")
    assert staged.app_data == {}
    with pytest.raises(InvalidProposal, match="no state"):
        room.hub.propose_app_data_update(component_id=COMPONENT, **propose)


def test_an_external_removal_of_a_component_without_state_is_refused(room: Room) -> None:
    removal = b"\x00\x08" + ABSENT.to_bytes(2, "big") + b"\x02"
    message = proposal_message(room.hub_key, external(0), removal, group_id=GROUP_ID, epoch=room.hub.epoch)
    refused(room, message, InvalidProposal)


def test_an_external_update_is_stored_once(room: Room) -> None:
    message = update(room, room.hub_key, 0)
    assert everywhere(room, message).reference == everywhere(room, message).reference
    assert len(room.hub.proposals()) == 1
    assert len(room.groups["alice"].pending_app_data_updates()) == 1


def test_values_beside_an_external_update_are_refused(room: Room) -> None:
    message = update(room, room.hub_key, 0)
    before = room.clients["alice"].save()
    with pytest.raises(NotAllowed):
        room.groups["alice"].process(message, new_app_data={COMPONENT: b"x"})
    assert room.clients["alice"].save() == before


def test_proposals_fit_a_group_with_safe_aad(now: int) -> None:
    """With the `safe_aad` component, all authenticated data begins with a SafeAAD struct."""
    room = Room(now=now, app_data={COMPONENT: b"state", SAFE_AAD: vector(b"")})
    message = update(room, room.hub_key, 0)
    assert openmls.inspect_message(message).authenticated_data == vector(b"")
    everywhere(room, message)
    assert (
        room.hub.stage_proposal(
            room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=0)
        ).removed_leaf
        == 0
    )
    change = b"\x00\x08" + COMPONENT.to_bytes(2, "big") + b"\x01" + vector(b"+")
    without = proposal_message(room.hub_key, external(0), change, group_id=GROUP_ID, epoch=room.hub.epoch)
    refused(room, without, NotAllowed)


def test_a_member_that_was_removed_takes_no_external_update(room: Room) -> None:
    message = update(room, room.hub_key, 0)
    carol = room.groups["carol"]
    room.accept(room.groups["alice"].commit(remove=[2]), "alice")
    with pytest.raises(MlsError):
        carol.process(message)
    with pytest.raises(MlsError):
        carol.process(update(room, room.hub_key, 0))


def test_extensions_proposed_by_the_hub_replace_those_of_the_group(room: Room) -> None:
    new_key = SignatureKeyPair.generate()
    senders = vector(vector(new_key.public_key) + b"\x00\x01" + vector(b"new.example"))
    changed = {**room.hub.extensions(), EXTERNAL_SENDERS: senders}
    info = everywhere(
        room,
        room.hub.propose_group_context_extensions(signer=room.hub_key, sender_index=0, extensions=changed),
    )
    assert info.extensions == changed
    room.accept(room.groups["bob"].commit(), "bob")
    assert room.hub.extensions() == changed
    with pytest.raises(InvalidSignature):
        remove(room, room.hub_key, 0)
    everywhere(room, remove(room, new_key, 0))


def test_extensions_that_no_commit_could_bring_in_are_not_proposed(room: Room) -> None:
    present = room.hub.extensions()

    def propose(changed: dict[int, bytes]) -> None:
        room.hub.propose_group_context_extensions(signer=room.hub_key, sender_index=0, extensions=changed)

    dictionary = vector(COMPONENT.to_bytes(2, "big") + vector(b"other"))
    without = {kind: data for kind, data in present.items() if kind != APP_DATA_DICTIONARY}
    for changed in ({**present, APP_DATA_DICTIONARY: dictionary}, without, {}):
        with pytest.raises(InvalidProposal, match="AppDataUpdate"):
            propose(changed)
    with pytest.raises(InvalidProposal, match="leaf 0 does not support extension 0xf000"):
        propose({**present, 0xF000: b""})
    demanding = vector(b"\xf0\x01") + vector(b"\x00\x08\x00\x0a") + vector(b"\x00\x01")
    with pytest.raises(InvalidProposal, match="extension 0xf001"):
        propose({**present, REQUIRED_CAPABILITIES: demanding})
    demanding = vector(b"\x00\x06") + vector(b"\xf0\x09") + vector(b"\x00\x01\x00\x03")
    with pytest.raises(InvalidProposal, match="proposal 0xf009, credential 0x0003"):
        propose({**present, REQUIRED_CAPABILITIES: demanding})
    for malformed in ({**present, EXTERNAL_SENDERS: b"\x05"}, {**present, 2: b"\x00"}):
        with pytest.raises(InvalidProposal):
            propose(malformed)
    with pytest.raises(OverflowError):
        propose({1 << 16: b""})
    propose(present)


def test_a_member_closes_the_group_by_the_reinit_of_an_external_sender(room: Room) -> None:
    message = reinit(room, room.hub_key, 0)
    content = b"\x00\x05" + vector(b"next") + b"\x00\x01\x00\x01" + extension_vector(room.hub.extensions())
    assert message == proposal_message(
        room.hub_key, external(0), content, group_id=GROUP_ID, epoch=room.hub.epoch
    )
    info = everywhere(room, message)
    assert (info.kind, info.sender, info.external_sender) == ("reinit", "external", 0)
    assert (info.reinit_group_id, info.reinit_ciphersuite) == (b"next", 1)
    bundle = room.groups["bob"].commit_reinit(ref_of(info))
    staged = room.hub.stage_commit(bundle.commit)
    room.hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    [taken] = staged.proposals
    assert (taken.kind, taken.external_sender, taken.reference) == ("reinit", 0, info.reference)
    room.hub.merge(staged)
    for name, group in room.groups.items():
        if name == "bob":
            group.merge_pending_commit()
        else:
            group.process(bundle.commit)
        assert group.reinit is not None
        assert (group.reinit.group_id, group.is_active) == (b"next", False)
    assert room.hub.reinit is not None
    assert room.hub.reinit.group_id == b"next"


def test_a_reinit_of_an_external_sender_to_an_older_version_is_refused(room: Room) -> None:
    content = b"\x00\x05" + vector(b"next") + b"\x00\x00\x00\x01" + vector(b"")
    message = proposal_message(room.hub_key, external(0), content, group_id=GROUP_ID, epoch=room.hub.epoch)
    refused(room, message, InvalidProposal)


def test_a_reinit_to_an_older_version_or_with_malformed_extensions_is_not_made(room: Room) -> None:
    propose: dict[str, Any] = {
        "signer": room.hub_key,
        "sender_index": 0,
        "group_id": b"next",
        "ciphersuite": 1,
    }
    with pytest.raises(InvalidProposal):
        room.hub.propose_reinit(version=0, extensions={}, **propose)
    with pytest.raises(InvalidProposal):
        room.hub.propose_reinit(extensions={EXTERNAL_SENDERS: b"\x05"}, **propose)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PSK, b"\x01" + vector(b"which") + vector(bytes(32))),
        (EXTERNAL_INIT, vector(bytes(32))),
        (APP_EPHEMERAL, COMPONENT.to_bytes(2, "big") + vector(b"now")),
        (SELF_REMOVE, b""),
        (0xF123, vector(b"custom")),
    ],
    ids=["psk", "external_init", "app_ephemeral", "self_remove", "custom"],
)
def test_no_other_kind_is_taken_from_an_external_sender(room: Room, kind: int, body: bytes) -> None:
    message = proposal_message(
        room.hub_key, external(0), kind.to_bytes(2, "big") + body, group_id=GROUP_ID, epoch=room.hub.epoch
    )
    refused(room, message, InvalidProposal)


@pytest.mark.parametrize("sender", [external(0), NEW_MEMBER_PROPOSAL], ids=["external", "new member"])
def test_who_only_proposes_cannot_commit(room: Room, sender: bytes) -> None:
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    forgery.sender, forgery.membership_tag = sender, None
    before = room.hub.save()
    commit = forgery.sign(room.hub_key, b"")
    with pytest.raises(NotAllowed):
        room.hub.stage_commit(commit)
    with pytest.raises(NotAllowed):
        room.groups["alice"].process(commit)
    assert room.hub.save() == before


def test_a_joiner_sends_no_proposal(room: Room) -> None:
    new_member_commit = b"\x04"
    message = proposal_message(
        room.hub_key, new_member_commit, b"\x00\x03" + bytes(4), group_id=GROUP_ID, epoch=room.hub.epoch
    )
    refused(room, message, NotAllowed)


def test_an_external_proposal_of_another_group_is_refused(room: Room) -> None:
    for proposal in (b"\x00\x03" + bytes(4), b"\x00\x08" + COMPONENT.to_bytes(2, "big") + b"\x02"):
        message = proposal_message(
            room.hub_key, external(0), proposal, group_id=b"another", epoch=room.hub.epoch
        )
        refused(room, message, UnknownGroup)
