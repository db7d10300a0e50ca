"""Looking into messages, and what arbitrary bytes may do: raise `MlsError`, nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import openmls
from forge import vector
from openmls import Client, MalformedMessage, MlsError, PublicGroup, group_info_details, inspect_message
from support import GROUP_ID, Room, uri

VECTORS = Path(__file__).parent / "vectors"
MESSAGES = json.loads((VECTORS / "messages.json").read_text())["cases"]
WELCOMES = json.loads((VECTORS / "passive-client-welcome.json").read_text())["cases"]


def test_a_public_commit_shows_its_prefix(room: Room) -> None:
    room.add("bob")
    info = inspect_message(room.groups["bob"].commit(aad=b"aad").commit)
    assert info.wire_format == "public_message"
    assert info.content_type == "commit"
    assert (info.group_id, info.epoch) == (GROUP_ID, 1)
    assert info.sender_leaf_index == 1
    assert info.authenticated_data == b"aad"
    assert not info.is_external_commit
    assert info.ciphersuite is None


def test_an_external_commit_shows_as_one(room: Room) -> None:
    _, bundle = Client.create(identity=uri("bob")).join_external(
        group_info=room.group_info, ratchet_tree=room.tree, aad=b"joining"
    )
    info = inspect_message(bundle.commit)
    assert info.is_external_commit
    assert info.sender_leaf_index is None
    assert info.authenticated_data == b"joining"


def test_proposals_of_members_and_of_the_hub_show_their_kind_of_sender(room: Room) -> None:
    room.add("bob")
    info = inspect_message(room.groups["bob"].propose_remove(0))
    assert (info.content_type, info.sender_leaf_index) == ("proposal", 1)
    info = inspect_message(room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=1))
    assert (info.content_type, info.sender_leaf_index) == ("proposal", None)


def test_an_application_message_shows_only_what_is_in_the_clear(room: Room) -> None:
    room.add("bob")
    info = inspect_message(room.groups["bob"].encrypt(b"secret", aad=b"clear"))
    assert (info.wire_format, info.content_type) == ("private_message", "application")
    assert (info.group_id, info.epoch) == (GROUP_ID, 1)
    assert info.authenticated_data == b"clear"
    assert info.sender_leaf_index is None


def test_a_group_info_shows_its_group(room: Room) -> None:
    room.add("bob")
    details = group_info_details(room.group_info)
    assert (details.group_id, details.epoch, details.ciphersuite, details.signer_leaf) == (GROUP_ID, 1, 1, 0)
    assert details.group_context == room.hub.group_context()
    assert details.app_data == room.hub.app_data()
    assert details.tree_hash in details.group_context
    assert details.confirmed_transcript_hash in details.group_context
    wrapped = b"\x00\x01\x00\x04" + room.group_info
    assert group_info_details(wrapped).group_context == details.group_context
    assert inspect_message(wrapped).wire_format == "group_info"
    with pytest.raises(MalformedMessage):
        group_info_details(room.group_info + b"\x00")


@pytest.mark.parametrize("case", MESSAGES)
def test_official_messages_decode_exactly(case: dict[str, str]) -> None:
    expected = {
        "mls_welcome": ("welcome", None),
        "mls_group_info": ("group_info", None),
        "mls_key_package": ("key_package", None),
        "public_message_application": ("public_message", "application"),
        "public_message_proposal": ("public_message", "proposal"),
        "public_message_commit": ("public_message", "commit"),
        "private_message": ("private_message", None),
    }
    for name, (wire_format, content_type) in expected.items():
        data = bytes.fromhex(case[name])
        info = inspect_message(data)
        assert info.wire_format == wire_format
        assert content_type in (None, info.content_type)
        with pytest.raises(MalformedMessage):
            inspect_message(data + b"\x00")
        for cut in range(0, len(data), 5):
            with pytest.raises(MalformedMessage):
                inspect_message(data[:cut])
    assert group_info_details(bytes.fromhex(case["mls_group_info"])).group_id


@pytest.mark.parametrize("case", WELCOMES)
def test_official_welcomes_name_their_key_package(case: dict[str, str | int]) -> None:
    # MakeKeyPackageRef(value) = RefHash("MLS 1.0 KeyPackage Reference", value), RFC 9420 section 5.2
    key_package = bytes.fromhex(str(case["key_package"]))[4:]
    labelled = vector(b"MLS 1.0 KeyPackage Reference") + vector(key_package)
    reference = openmls.hash(int(case["cipher_suite"]), labelled)
    assert reference in openmls.welcome_references(bytes.fromhex(str(case["welcome"])))


def entrances(room: Room) -> dict[str, Callable[[bytes], object]]:
    """Every function that takes bytes from somebody else."""
    bob = room.clients["bob"]
    hub, alice = room.hub, room.groups["alice"]
    staged = hub.stage_commit(Client.load(room.clients["alice"].save()).group(GROUP_ID).commit().commit)
    return {
        "inspect_message": inspect_message,
        "reencode": openmls.reencode,
        "inspect_key_package": lambda data: openmls.inspect_key_package(data, now=room.now),
        "key_package_reference": openmls.key_package_reference,
        "key package of 2001": lambda data: openmls.inspect_key_package(data, now=1_000_000_000),
        "proposal_reference": lambda data: openmls.proposal_reference(data, ciphersuite=1),
        "inspect_ratchet_tree": lambda data: openmls.inspect_ratchet_tree(data, ciphersuite=1),
        "welcome_references": openmls.welcome_references,
        "group_info_details": group_info_details,
        "stage_commit": hub.stage_commit,
        "stage_proposal": hub.stage_proposal,
        "add_proposal": hub.add_proposal,
        "app_data_updates": hub.app_data_updates,
        "verify_group_info": lambda data: hub.verify_group_info(staged=staged, group_info=data),
        "rebuild_group_info": lambda data: hub.rebuild_group_info(
            staged=staged, extensions=data, signature=data
        ),
        "propose_add": lambda data: hub.propose_add(
            signer=room.hub_key, sender_index=0, key_package=data, now=room.now
        ),
        "propose_group_context_extensions": lambda data: hub.propose_group_context_extensions(
            signer=room.hub_key, sender_index=0, extensions={**hub.extensions(), 5: data}
        ),
        "process": alice.process,
        "group.app_data_updates": alice.app_data_updates,
        "commit add": lambda data: alice.commit(add=[data]),
        "observe": lambda data: PublicGroup.observe(group_info=data, ratchet_tree=room.tree),
        "observe tree": lambda data: PublicGroup.observe(group_info=room.group_info, ratchet_tree=data),
        "join_welcome": lambda data: bob.join_welcome(welcome=data, ratchet_tree=room.tree),
        "preview_welcome": lambda data: bob.preview_welcome(welcome=data, ratchet_tree=room.tree),
        "preview_welcome tree": lambda data: bob.preview_welcome(welcome=data, ratchet_tree=data),
        "import_key_package": lambda data: bob.import_key_package(
            key_package=data, init_key=data[:32], encryption_key=data[-32:]
        ),
        "member propose_add": alice.propose_add,
        "forget_key_package": bob.forget_key_package,
        "commit_reinit": alice.commit_reinit,
        "create_branch": lambda data: bob.create_branch(GROUP_ID, branch_id=b"b", add=[data]),
        "join_external": lambda data: bob.join_external(group_info=data, ratchet_tree=room.tree),
        "join_external tree": lambda data: bob.join_external(
            group_info=room.group_info, ratchet_tree=data, replace_leaf=0
        ),
        "from_bytes": openmls.SignatureKeyPair.from_bytes,
        "hpke from_bytes": openmls.HpkeKeyPair.from_bytes,
        "Client.load": Client.load,
        "PublicGroup.load": PublicGroup.load,
    }


def outcome(entrance: Callable[[bytes], object], data: bytes) -> str:
    """The code of what is raised; anything but an `MlsError` fails the test."""
    try:
        entrance(data)
    except MlsError as error:
        return error.code
    return "accepted"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arbitrary_and_damaged_bytes_raise_nothing_but_mls_errors_and_change_nothing(
    now: int, data: st.DataObject
) -> None:
    room = Room(now=now)
    room.client("bob")
    valid = [
        room.group_info,
        room.tree,
        b"\x00\x01\x00\x04" + room.group_info,
        room.key_package("bob"),
        room.groups["alice"].encrypt(b"x"),
        room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=0),
        *(bytes.fromhex(value) for value in MESSAGES[0].values()),
        room.hub.propose_app_data_update(signer=room.hub_key, sender_index=0, component_id=1, payload=b"x"),
        group_info_details(room.group_info).extensions,
        openmls.HpkeKeyPair.generate().to_bytes(),
    ]
    message = bytearray(data.draw(st.one_of(st.sampled_from(valid), st.binary(max_size=64))))
    for _ in range(data.draw(st.integers(1, 3))):
        if message:
            message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = bytes(
        message[: data.draw(st.integers(0, len(message)))] if data.draw(st.booleans()) else message
    )
    for name, entrance in entrances(room).items():
        before = room.hub.save(), room.clients["alice"].save(), room.clients["bob"].save()
        code = outcome(entrance, damaged)
        assert code != "poisoned", name
        if code != "accepted":
            assert (room.hub.save(), room.clients["alice"].save(), room.clients["bob"].save()) == before, name
