"""Rooms whose hub franks messages: whose key a group may name, and what each message has to bring."""

from __future__ import annotations

from dataclasses import replace

import openmls
import pytest

from linearized.mimi.app_data import SAFE_AAD_COMPONENT, ComponentsList
from linearized.mimi.franking import FrankAAD, FrankingAgentData, franking_components
from linearized.mimi.handshake import HandshakeBundle
from linearized.mimi.key_material import basic_credential
from linearized.mimi.participants import FRANK_AAD, FRANKING_AGENT, PARTICIPANT_LIST
from linearized.protocol.identifiers import user_uri
from linearized.protocol.versions import get_version
from linearized.room.franks import check_agent_of_log
from linearized.room.room import Room
from linearized.room.submissions import ApplicationMessage, Handshake, Reason, Rejected
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
    new_room,
    participant_list,
)
from tests.room.support import refusal as refused

SUITE = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519


def agent_of(key: bytes, provider: str = "a.example") -> bytes:
    return FrankingAgentData(
        franking_signature_key=key, credential=basic_credential(f"mimi://{provider}".encode())
    ).encode()


AGENT = agent_of(b"the hub's key")
AGENTS = {SUITE: AGENT}


def created(alice: Member, components: dict[int, bytes]) -> Handshake:
    return alice.create(app_data={PARTICIPANT_LIST: participant_list((ALICE, 2)), **components})


def franked_room() -> tuple[Room, Member]:
    room, alice = new_room(agents=AGENTS), Member(ALICE)
    room.submit(created(alice, franking_components(AGENT)), now=NOW)
    alice.accept()
    return room, alice


def tagged(alice: Member, aad: dict[int, bytes]) -> ApplicationMessage:
    message = alice.joined().encrypt(b"hello", safe_aad=aad)
    return ApplicationMessage(message=message, sending_uri=user_uri(ALICE), provider="a.example")


TAGGED = {FRANK_AAD: FrankAAD(franking_tag=bytes(32)).encode()}


def test_a_message_with_a_franking_tag_is_taken_in_a_franked_room() -> None:
    room, alice = franked_room()
    assert room.submit(tagged(alice, TAGGED), now=NOW).entries[0].event.type == "m.room.encrypted"


def test_a_message_without_a_tag_is_refused_in_a_franked_room() -> None:
    room, alice = franked_room()
    refused(room, tagged(alice, {}), Reason.FORBIDDEN)
    refused(room, tagged(alice, {0x8001: b"of another component"}), Reason.FORBIDDEN)


def test_a_message_whose_tag_has_another_length_is_refused() -> None:
    room, alice = franked_room()
    refused(room, tagged(alice, {FRANK_AAD: bytes(31)}), Reason.MALFORMED)


def test_a_room_without_a_franking_agent_takes_messages_without_a_tag() -> None:
    room, alice, _ = grouped_room()
    assert room.submit(alice.message(), now=NOW).entries


@pytest.mark.parametrize(
    "agent",
    [agent_of(b"another key"), agent_of(b"the hub's key", "b.example"), b"no agent"],
    ids=["another key", "another provider", "malformed"],
)
def test_a_group_with_another_franking_agent_than_the_hubs_is_refused(agent: bytes) -> None:
    room = new_room(agents=AGENTS)
    refused(room, created(Member(ALICE), franking_components(agent)), Reason.INVALID_COMMIT)


def test_a_hub_that_franks_nothing_takes_no_group_with_a_franking_agent() -> None:
    refused(new_room(), created(Member(ALICE), franking_components(AGENT)), Reason.INVALID_COMMIT)


def test_a_franking_agent_without_framed_authenticated_data_is_refused() -> None:
    room = new_room(agents=AGENTS)
    refused(room, created(Member(ALICE), {FRANKING_AGENT: AGENT}), Reason.INVALID_COMMIT)


def test_a_hub_with_another_key_than_the_groups_asks_for_no_tags() -> None:
    room, alice = franked_room()
    kept = room.submit(tagged(alice, TAGGED), now=NOW)
    moved = Room(
        room_id=ROOM,
        version=get_version("dev.linearized.1"),
        identity=A,
        mls=MLS,
        state=room.state,
        head=(room.head_seq, kept.event_id),
        group=openmls.PublicGroup.observe(
            group_info=alice.joined().group_info()[0],
            ratchet_tree=alice.joined().group_info()[1],
            now=MLS.now,
        ),
        last_commit_id=room.last_commit_id,
        agents={SUITE: agent_of(b"a later key")},
    )
    assert moved.submit(tagged(alice, {}), now=NOW).entries


def test_others_send_with_tags_too_once_they_are_in() -> None:
    room, alice = franked_room()
    bob = Member(BOB)
    accepted = room.submit(alice.add(bob), now=NOW)
    alice.accept()
    bob.join(accepted)
    message = bob.joined().encrypt(b"hi", safe_aad=TAGGED)
    submission = ApplicationMessage(message=message, sending_uri=user_uri(BOB), provider="b.example")
    assert room.submit(submission, now=NOW).entries
    late = bob.joined().encrypt(b"hi")
    refused(
        room,
        ApplicationMessage(message=late, sending_uri=user_uri(BOB), provider="b.example"),
        Reason.FORBIDDEN,
    )


def naming(alice: Member, agent: bytes) -> Handshake:
    """A commit that puts another agent into the group."""
    bundle = alice.joined().commit(
        app_data_updates={FRANKING_AGENT: agent}, new_app_data={FRANKING_AGENT: agent}
    )
    return handshake(alice, bundle)


def test_a_commit_adds_the_hubs_agent_to_a_group_that_frames_its_authenticated_data() -> None:
    room, alice = new_room(agents=AGENTS), Member(ALICE)
    room.submit(created(alice, {SAFE_AAD_COMPONENT: ComponentsList().encode()}), now=NOW)
    alice.accept()
    assert room.submit(tagged(alice, {}), now=NOW).entries
    refused(room, naming(alice, agent_of(b"another key")), Reason.INVALID_COMMIT)
    alice.joined().clear_pending_commit()
    room.submit(naming(alice, AGENT), now=NOW)
    alice.accept()
    refused(room, tagged(alice, {}), Reason.FORBIDDEN)
    assert room.submit(tagged(alice, TAGGED), now=NOW).entries


# --- another agent, after the room has moved ---

NEW = agent_of(b"the new hub's key")


def moved_room() -> tuple[Room, Member]:
    """A room whose hub has another agent than its group names."""
    room, alice = franked_room()
    observed = openmls.PublicGroup.observe(
        group_info=alice.joined().group_info()[0],
        ratchet_tree=alice.joined().group_info()[1],
        now=MLS.now,
    )
    moved = Room(
        room_id=ROOM,
        version=get_version("dev.linearized.1"),
        identity=A,
        mls=MLS,
        state=room.state,
        head=(room.head_seq, "$last"),
        group=observed,
        last_commit_id=room.last_commit_id,
        agents={SUITE: NEW},
    )
    return moved, alice


def test_a_commit_names_the_agent_of_the_hub_that_the_room_has_moved_to() -> None:
    room, alice = moved_room()
    assert room.submit(tagged(alice, {}), now=NOW).entries
    room.submit(naming(alice, NEW), now=NOW)
    alice.accept()
    refused(room, tagged(alice, {}), Reason.FORBIDDEN)
    assert room.submit(tagged(alice, TAGGED), now=NOW).entries


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (agent_of(b"somebody's key"), Reason.INVALID_COMMIT),
        (agent_of(b"the new hub's key", "b.example"), Reason.INVALID_COMMIT),
        (AGENT, Reason.INVALID_COMMIT),
        (b"no agent", Reason.INVALID_PROPOSAL),
        (
            FrankingAgentData(franking_signature_key=b"k", credential=basic_credential(b"\xff")).encode(),
            Reason.INVALID_PROPOSAL,
        ),
    ],
    ids=["another key", "another provider", "the one before", "malformed", "no URI"],
)
def test_a_commit_that_names_anybody_elses_agent_is_refused(agent: bytes, reason: Reason) -> None:
    room, alice = moved_room()
    refused(room, naming(alice, agent), reason)


def test_a_room_that_was_made_without_franking_gets_none_by_a_commit() -> None:
    room, alice, _ = grouped_room()
    refused(room, naming(alice, NEW), Reason.INVALID_PROPOSAL)


def test_a_first_commit_changes_no_agent_to_another_hubs() -> None:
    room, alice = new_room(agents=AGENTS), Member(ALICE)
    first = created(alice, franking_components(AGENT))
    alice.joined().clear_pending_commit()
    refused(room, replace(naming(alice, NEW), initial_group=first.initial_group), Reason.INVALID_COMMIT)


def test_an_agent_is_not_proposed_for_somebody_else_to_commit() -> None:
    room, alice = moved_room()
    proposal = alice.joined().propose_app_data_update(FRANKING_AGENT, NEW)
    bundle = HandshakeBundle(message=proposal)
    offered = Handshake(bundle=bundle, provider="a.example", introduced=frozenset())
    refused(room, offered, Reason.INVALID_PROPOSAL)


def test_who_reads_a_log_holds_a_new_agent_to_the_hubs_name() -> None:
    _, alice = moved_room()
    submission = naming(alice, NEW)
    group_info, ratchet_tree = alice.joined().group_info()
    group = openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=ratchet_tree, now=MLS.now)
    staged = group.stage_commit(submission.bundle.message, new_app_data={FRANKING_AGENT: NEW}, now=MLS.now)
    check_agent_of_log(staged, hub="a.example")
    with pytest.raises(Rejected) as raised:
        check_agent_of_log(staged, hub="b.example")
    assert raised.value.code is Reason.INVALID_COMMIT
