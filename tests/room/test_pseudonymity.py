"""Minimal metadata rooms: whose leaves and events they take."""

from __future__ import annotations

from dataclasses import replace

import openmls
import pytest

from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.choice import POLICY_CHOICE, chosen_policy
from linearized.mimi.policy.components import BASE_ROOM_POLICY, ROLES_LIST
from linearized.mimi.pseudonyms import MINIMAL_METADATA, PseudonymousCredential
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import parse_user_id, user_uri
from linearized.protocol.versions import get_version
from linearized.room.admission import ALGORITHM
from linearized.room.pseudonymity import (
    is_pseudonymous_user,
    keeps_minimal_metadata,
)
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Handshake, LocalEvent, Reason, Rejected
from tests.room.party import offer
from tests.room.support import (
    ALICE,
    BOB,
    MLS,
    NOW,
    ROOM,
    A,
    Member,
    grouped_room,
    handshake,
    member,
    participant_list,
    refusal,
    state_event,
)

ANN = "@0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f:a.example"
BEA = "@1b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f:b.example"
CLIENT = "9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b"


def pseudonym(user_id: str) -> Member:
    """A client of a pseudonym."""
    found, keys = Member(user_id), openmls.SignatureKeyPair.generate()
    name, domain = parse_user_id(user_id)
    credential = PseudonymousCredential(
        client_pseudonym=f"mimi://{domain}/d/{name}/{CLIENT}",
        user_pseudonym=user_uri(user_id),
        signature_public_key=keys.public_key,
        identity_link_ciphertext=b"sealed",
    )
    found.client = openmls.Client.create(identity=credential.encode(), signature_key=keys)
    return found


def empty_room() -> Room:
    return Room(room_id=ROOM, version=get_version("dev.linearized.1"), identity=A, mls=MLS)


def create_event(content: JsonObject | None = None, *, creator: str = ANN) -> LocalEvent:
    whole: JsonObject = {
        "room_version": "dev.linearized.1",
        "encryption": {"algorithm": ALGORITHM},
        MINIMAL_METADATA: True,
        **(content or {}),
    }
    return LocalEvent(sender=creator, type="m.room.create", state_key="", content=whole)


def minimal_room(content: JsonObject | None = None) -> Room:
    room = empty_room()
    for event in (create_event(content), member(ANN, "join")):
        room.submit(event, now=NOW)
    return room


def grouped(*others: Member) -> tuple[Room, Member, Accepted]:
    room, ann = minimal_room(), pseudonym(ANN)
    accepted = room.submit(ann.create(), now=NOW)
    ann.accept()
    if others:
        accepted = room.submit(ann.add(*others), now=NOW)
        ann.accept()
        for other in others:
            other.join(accepted)
    return room, ann, accepted


def test_pseudonyms_talk_in_a_minimal_metadata_room() -> None:
    bea = pseudonym(BEA)
    room, ann, _ = grouped(bea)
    assert keeps_minimal_metadata(room.state)
    for sender in (bea, ann):
        entry = room.submit(sender.message(), now=NOW).entry
        assert entry.event.sender == sender.user_id
    assert {key for kind, key in room.state if kind == "m.room.member"} == {ANN, BEA}


def test_a_real_credential_is_refused_in_it() -> None:
    room = minimal_room()
    assert "pseudonymous credentials" in str(refusal(room, Member(ANN).create(), Reason.FORBIDDEN))
    room, ann, _ = grouped()
    refusal(room, ann.add(Member(BEA)), Reason.FORBIDDEN)
    ann.joined().clear_pending_commit()
    assert "have pseudonyms" in str(refusal(room, ann.add(Member(BOB)), Reason.FORBIDDEN))


def test_a_client_that_comes_back_with_a_real_credential_is_refused() -> None:
    bea = pseudonym(BEA)
    room, _, accepted = grouped(bea)
    bea.client = openmls.Client.create(identity=f"mimi://b.example/d/{BEA[1:37]}/DEV".encode())
    refusal(room, bea.rejoin(accepted), Reason.FORBIDDEN)


def test_a_client_that_comes_back_with_its_pseudonym_is_taken() -> None:
    bea = pseudonym(BEA)
    room, _, accepted = grouped(bea)
    assert accepted.group is not None
    leaf = bea.joined().own_leaf_index
    bea.group, bundle = bea.client.join_external(
        group_info=accepted.group.group_info, ratchet_tree=accepted.group.ratchet_tree, replace_leaf=leaf
    )
    assert room.submit(handshake(bea, bundle), now=NOW).group is not None


def test_a_pseudonym_is_refused_in_any_other_room() -> None:
    room, alice, _ = grouped_room()
    assert "Only a minimal" in str(refusal(room, alice.add(pseudonym(BEA)), Reason.FORBIDDEN))


def test_a_standalone_proposal_adds_pseudonyms_alone() -> None:
    room, ann, _ = grouped()
    message = ann.joined().propose_add(Member(BEA).key_package())
    with pytest.raises(Rejected, match="pseudonymous credentials"):
        room.submit(offer(ann, message), now=NOW)
    room, alice, _ = grouped_room(initial=[state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})])
    message = alice.joined().propose_add(pseudonym(BEA).key_package())
    with pytest.raises(Rejected, match="Only a minimal"):
        room.submit(offer(alice, message), now=NOW)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (create_event(creator=ALICE), "events of pseudonyms"),
        (create_event({MINIMAL_METADATA: 1}), "true or false"),
    ],
)
def test_the_creation_of_one_is_by_a_pseudonym_and_clear(event: LocalEvent, reason: str) -> None:
    assert reason in str(refusal(empty_room(), event, Reason.FORBIDDEN))


def test_it_is_encrypted() -> None:
    event = create_event()
    plain = {key: value for key, value in event.content.items() if key != "encryption"}
    assert "is encrypted" in str(refusal(empty_room(), replace(event, content=plain), Reason.FORBIDDEN))


def test_a_room_that_says_it_is_none_is_none() -> None:
    room = empty_room()
    room.submit(create_event({MINIMAL_METADATA: False}, creator=ALICE), now=NOW)
    assert not keeps_minimal_metadata(room.state)


@pytest.mark.parametrize("field", ["displayname", "avatar_url", "dev.example.name"])
def test_a_membership_says_nothing_of_the_member(field: str) -> None:
    room = minimal_room()
    telling = LocalEvent(
        sender=ANN, type="m.room.member", state_key=ANN, content={"membership": "join", field: "Ann"}
    )
    assert field in str(refusal(room, telling, Reason.FORBIDDEN))


def test_only_a_pseudonym_is_invited() -> None:
    room = minimal_room()
    assert "have pseudonyms" in str(refusal(room, member(BOB, "invite", sender=ANN), Reason.FORBIDDEN))
    room.submit(member(BEA, "invite", sender=ANN), now=NOW)


def test_nobody_is_invited_by_an_address() -> None:
    event = state_event(ANN, "m.room.third_party_invite", {"display_name": "a...@example"}, "token")
    assert "address" in str(refusal(minimal_room(), event, Reason.FORBIDDEN))


def test_a_past_is_not_imported() -> None:
    event = LocalEvent(
        sender=BOB,
        type="m.room.message",
        state_key=None,
        content={"body": "hello"},
        provenance={"protocol": "matrix", "provider": "b.example", "event_id": "$x", "imported": True},
    )
    assert "history" in str(refusal(minimal_room(), event, Reason.FORBIDDEN))


def test_its_policy_says_that_pseudonyms_are_allowed() -> None:
    room, ann = minimal_room({POLICY_CHOICE: "moderated"}), pseudonym(ANN)
    for allowed in (False, True):
        preset = chosen_policy("moderated", pseudonyms=allowed)
        listed = {PARTICIPANT_LIST: participant_list((ANN, preset.creator_role))}
        first = ann.create(app_data={**listed, **preset.components()})
        if allowed:
            room.submit(first, now=NOW)
        else:
            refusal(room, first, Reason.INVALID_COMMIT)
            ann.client.forget_group(ann.joined().group_id)
    ann.accept()
    update = BaseRoomPolicy(pseudonyms_allowed=False).encode()
    assert "does not allow pseudonyms" in str(refusal(room, _change_base(ann, update), Reason.FORBIDDEN))
    ann.joined().clear_pending_commit()
    kept = BaseRoomPolicy(pseudonyms_allowed=True, discoverable=True).encode()
    room.submit(_change_base(ann, kept), now=NOW)


def _change_base(ann: Member, update: bytes) -> Handshake:
    bundle = ann.joined().commit(
        app_data_updates={BASE_ROOM_POLICY: update}, new_app_data={BASE_ROOM_POLICY: update}
    )
    return handshake(ann, bundle)


def test_a_policy_that_does_not_say_so_is_refused() -> None:
    room, ann = minimal_room(), pseudonym(ANN)
    preset = chosen_policy("moderated", pseudonyms=True)
    components = {ROLES_LIST: preset.roles.encode()}
    listed = {PARTICIPANT_LIST: participant_list((ANN, preset.creator_role))}
    first = ann.create(app_data={**listed, **components})
    assert "says that pseudonyms" in str(refusal(room, first, Reason.INVALID_COMMIT))


def test_what_is_no_user_id_is_no_pseudonym() -> None:
    assert is_pseudonymous_user(ANN)
    assert not is_pseudonymous_user(ALICE)
    assert not is_pseudonymous_user("nobody")
