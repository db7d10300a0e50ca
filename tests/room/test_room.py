"""The room as a state machine: what it takes, what it refuses, and what is left behind either way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.verify import verify_event
from linearized.protocol.versions import get_version
from linearized.room.admission import ALGORITHM
from linearized.room.room import Room
from linearized.room.speakers import Speakers
from linearized.room.submissions import LinearizedPdu, LocalEvent, Reason, Rejected
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    MLS,
    NOW,
    ROOM,
    A,
    B,
    Member,
    grouped_room,
    linearized_pdu,
    member,
    new_room,
    refusal,
    state_event,
)

MATRIX = {"protocol": "matrix", "provider": "matrix.example", "event_id": "$orig"}
PUBLIC = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})
KEYS = {("a.example", A.key.key_id): A.key.verify_key, ("b.example", B.key.key_id): B.key.verify_key}


def verified(event: Event) -> Event:
    return verify_event(
        event, version=get_version("dev.linearized.1"), keys=lambda server, key_id: KEYS.get((server, key_id))
    )


def lpdu(
    event_type: str, content: JsonObject, *, state_key: str | None = None, **changes: str
) -> LinearizedPdu:
    fields = {"room_id": ROOM, "sender": BOB, "hub_server": "a.example"} | changes
    built = build_lpdu(
        identity=B,
        version=get_version("dev.linearized.1"),
        type=event_type,
        content=content,
        origin_server_ts=NOW,
        state_key=state_key,
        **fields,
    )
    return linearized_pdu(built, B, get_version("dev.linearized.1"))


def bob_joins() -> LinearizedPdu:
    return lpdu("m.room.member", {"membership": "join"}, state_key=BOB)


def test_entries_are_numbered_without_gaps_and_each_links_to_the_one_before() -> None:
    room = new_room()
    first = room.submit(state_event(ALICE, "m.room.name", {"name": "Club"}), now=NOW)
    second = room.submit(state_event(ALICE, "m.room.topic", {"topic": "Talk"}), now=NOW)
    assert [entry.seq for entry in (*first.entries, *second.entries)] == [3, 4]
    assert second.entries[0].event.prev_events == (first.event_id,)
    assert room.head_seq == 4
    assert room.state["m.room.topic", ""].event_id == second.event_id


def test_every_event_is_signed_by_the_hub_and_hashed() -> None:
    accepted = new_room().submit(state_event(ALICE, "m.room.name", {"name": "Club"}), now=NOW)
    event = accepted.entries[0].event
    assert verified(event) is event
    assert event.hub_server is None


def test_a_timestamp_is_the_submitters_if_given_and_the_hubs_if_not() -> None:
    room = new_room()
    name = LocalEvent(sender=ALICE, type="m.room.name", state_key="", content={}, origin_server_ts=5)
    assert room.submit(name, now=NOW).entries[0].event.origin_server_ts == 5
    topic = state_event(ALICE, "m.room.topic", {})
    assert room.submit(topic, now=NOW).entries[0].event.origin_server_ts == NOW


def test_a_user_without_the_power_is_refused() -> None:
    room = new_room(initial=[PUBLIC, member(ANNA, "join")])
    refusal(room, state_event(ANNA, "m.room.name", {"name": "Mine"}), Reason.FORBIDDEN)


def test_a_user_of_another_server_cannot_be_passed_off_as_local() -> None:
    refusal(new_room(), state_event(BOB, "m.room.name", {}), Reason.FORBIDDEN)


def test_a_sender_that_is_no_user_id_is_malformed() -> None:
    refusal(new_room(), state_event("bob", "m.room.name", {}), Reason.MALFORMED)


def test_a_local_user_needs_no_provenance() -> None:
    event = LocalEvent(sender=ALICE, type="m.room.name", state_key="", content={}, provenance=dict(MATRIX))
    refusal(new_room(), event, Reason.FORBIDDEN)


def test_a_bridged_user_is_vouched_for_with_provenance_only() -> None:
    room = new_room(initial=[PUBLIC])
    join = member(CAROL, "join")
    refusal(room, join, Reason.FORBIDDEN)
    accepted = room.submit(
        LocalEvent(
            sender=CAROL,
            type="m.room.member",
            state_key=CAROL,
            content={"membership": "join"},
            provenance=dict(MATRIX),
        ),
        now=NOW,
    )
    event = accepted.entries[0].event
    assert event.provenance == MATRIX
    assert event.hub_server == "a.example"
    assert verified(event) is event


def test_nobody_is_vouched_for_whose_domain_is_not_one_of_a_bridge() -> None:
    room = new_room(initial=[PUBLIC])
    provenance = {**MATRIX, "provider": "elsewhere.example"}
    dave = "@dave:elsewhere.example"
    join = LocalEvent(
        sender=dave,
        type="m.room.member",
        state_key=dave,
        content={"membership": "join"},
        provenance=provenance,
    )
    refusal(room, join, Reason.FORBIDDEN)
    # A room's past is another matter.
    assert room.submit(replace(join, provenance={**provenance, "imported": True}), now=NOW)


def test_another_provider_does_not_speak_for_users_of_a_bridge() -> None:
    speakers = Speakers(hub="a.example", vouched=frozenset({"matrix.example"}))
    speakers.check_provider(CAROL, "a.example")
    speakers.check_provider(BOB, "b.example")
    for user_id, provider in ((CAROL, "b.example"), (BOB, "a.example"), (ALICE, "b.example")):
        with pytest.raises(Rejected, match="does not speak for"):
            speakers.check_provider(user_id, provider)


def test_a_room_is_encrypted_in_a_way_this_server_knows_or_not_at_all() -> None:
    for version in ("dev.linearized.1", "I.1"):
        for algorithm in ("m.mls.v1.unheard-of", "m.megolm.v1.aes-sha2", ""):
            with pytest.raises(Rejected, match="not one this server has"):
                new_room(version=version, algorithm=algorithm)


def test_an_oversized_event_is_refused_as_too_large() -> None:
    refusal(new_room(), state_event(ALICE, "m.room.topic", {"topic": "x" * 70_000}), Reason.TOO_LARGE)


def test_a_value_without_canonical_json_is_malformed() -> None:
    refusal(new_room(), state_event(ALICE, "m.room.topic", {"topic": 1.5}), Reason.MALFORMED)


def test_preview_shows_the_event_and_changes_nothing() -> None:
    room = new_room()
    event = room.preview(member(BOB, "invite", sender=ALICE), now=NOW)
    assert event.content == {"membership": "invite"}
    assert room.head_seq == 2
    assert room.submit(member(BOB, "invite", sender=ALICE), now=NOW).event_id == event.event_id


def test_preview_of_an_lpdu_completes_it() -> None:
    room = new_room(initial=[PUBLIC])
    assert room.preview(bob_joins(), now=NOW).prev_events
    assert room.head_seq == 3


# --- LPDUs ---


def test_an_lpdu_becomes_an_event_with_both_signatures() -> None:
    room = new_room(initial=[PUBLIC])
    submission = bob_joins()
    assert submission.origin == "b.example"
    event = room.submit(submission, now=NOW).entries[0].event
    assert event.pdu["signatures"].keys() == {"a.example", "b.example"}
    assert verified(event) is event


def test_an_lpdu_for_another_room_or_hub_is_refused() -> None:
    other_room = lpdu("m.room.name", {}, state_key="", room_id="!other:a.example")
    refusal(new_room(), other_room, Reason.UNKNOWN_ROOM)
    refusal(new_room(), lpdu("m.room.name", {}, state_key="", hub_server="c.example"), Reason.WRONG_HUB)


def test_an_lpdu_the_rules_forbid_is_refused() -> None:
    refusal(new_room(), bob_joins(), Reason.FORBIDDEN)


def test_an_lpdu_that_is_too_large_once_completed_is_refused() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(bob_joins(), now=NOW)
    nearly = lpdu("x.y", {"body": "x" * 65_100}, state_key="k")
    refusal(room, nearly, Reason.TOO_LARGE)


# --- encrypted rooms ---


@pytest.mark.parametrize("event_type", ["m.room.message", "org.example.custom"])
@pytest.mark.parametrize("version", ["dev.linearized.1", "I.1"])
def test_an_encrypted_room_takes_no_plaintext(event_type: str, version: str) -> None:
    message = LocalEvent(sender=ALICE, type=event_type, content={"body": "hi"})
    refusal(new_room(version=version), message, Reason.FORBIDDEN)


def test_a_plaintext_room_takes_messages_and_no_mls() -> None:
    room = new_room(encrypted=False)
    room.submit(LocalEvent(sender=ALICE, type="m.room.message", content={"body": "hi"}), now=NOW)
    refusal(room, Member(ALICE).create(), Reason.FORBIDDEN)
    ciphertext = LocalEvent(sender=ALICE, type="m.room.encrypted", content={"algorithm": ALGORITHM})
    refusal(room, ciphertext, Reason.FORBIDDEN)


def test_history_is_imported_before_the_first_commit_and_never_after() -> None:
    room = new_room()
    old = LocalEvent(
        sender=CAROL,
        type="m.room.message",
        content={"body": "long ago"},
        origin_server_ts=1,
        provenance=MATRIX | {"imported": True},
    )
    assert room.submit(old, now=NOW).entries[0].event.imported
    alice = Member(ALICE)
    room.submit(alice.create(), now=NOW)
    refusal(room, old, Reason.FORBIDDEN)


def test_history_may_hold_users_of_homeservers_that_no_bridge_of_ours_speaks_for() -> None:
    room = new_room()
    far = LocalEvent(
        sender="@dora:far.example",
        type="m.room.message",
        content={"body": "federated"},
        provenance={"protocol": "matrix", "provider": "far.example", "event_id": "$far", "imported": True},
    )
    assert room.submit(far, now=NOW).entries[0].event.imported
    refusal(room, replace(far, provenance={**MATRIX, "provider": "far.example"}), Reason.FORBIDDEN)


def test_handshake_events_are_not_accepted_as_plain_events() -> None:
    room, _, _ = grouped_room()
    for event_type in ("m.mls.commit", "m.mls.proposal"):
        refusal(room, LocalEvent(sender=ALICE, type=event_type, content={}), Reason.FORBIDDEN)


def test_mls_types_are_never_state() -> None:
    room, alice, _ = grouped_room()
    content = {"algorithm": ALGORITHM, "ciphertext": encode_base64(alice.joined().encrypt(b"x"))}
    event = LocalEvent(sender=ALICE, type="m.room.encrypted", state_key="", content=content)
    refusal(room, event, Reason.FORBIDDEN)


def test_a_room_whose_create_event_names_another_hub_takes_nothing() -> None:
    room = new_room()
    elsewhere = Room(
        room_id=ROOM,
        version=get_version("dev.linearized.1"),
        identity=B,
        mls=MLS,
        state=room.state,
        head=(2, "$head"),
    )
    refusal(elsewhere, state_event(BOB, "m.room.name", {}), Reason.WRONG_HUB)


def test_a_rejection_says_why() -> None:
    with pytest.raises(Rejected, match="does not speak for users of b"):
        new_room().submit(state_event(BOB, "m.room.name", {}), now=NOW)
