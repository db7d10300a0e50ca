"""The log as MIMI followers get it: what projects, in which order, and how much at a time."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from linearized.mimi.messages import decode_fanout_stream, message_role
from linearized.protocol.base64 import encode_base64
from linearized.room.submissions import Accepted
from linearized.server import fanout
from linearized.server.fanout import next_notification
from linearized.server.welcomes import PROVIDER_TYPE, provider_address
from linearized.store.base import EntryRow, ToDeviceRow
from tests.room.party import Party, leave
from tests.room.support import ALICE, BOB, NOW, ROOM, Member, grouped_room, handshake


def rows(*batch: Accepted) -> list[EntryRow]:
    return [
        EntryRow(
            room_id=ROOM,
            seq=entry.seq,
            event_id=entry.event.event_id,
            type=entry.event.type,
            state_key=entry.event.state_key,
            sender=entry.event.sender,
            origin_server_ts=entry.event.origin_server_ts,
            epoch=entry.epoch,
            pdu=entry.event.raw,
        )
        for accepted in batch
        for entry in accepted.entries
    ]


def welcome_of(accepted: Accepted, position: int) -> ToDeviceRow:
    (effect,) = accepted.welcomes
    content = {
        "welcome": encode_base64(effect.welcome),
        "ratchet_tree": encode_base64(effect.ratchet_tree),
        "timestamp": accepted.accepted_at,
        "seq": accepted.entries[-1].seq,
    }
    return ToDeviceRow(
        position=position,
        user_id=provider_address("b.example"),
        device_id=ROOM,
        type=PROVIDER_TYPE,
        sender="@alice:a.example",
        content=orjson.dumps(content),
    )


def roles(body: bytes) -> list[str]:
    return [message_role(message.message) for message in decode_fanout_stream(body)]


def test_state_events_are_passed_over_and_count_as_delivered() -> None:
    room, alice, _ = grouped_room()
    accepted = room.submit(alice.add(Member(BOB)), now=NOW)
    entries = rows(accepted)[:2]
    notification = next_notification(cursor=entries[0].seq - 1, entries=entries, welcomes=[])
    assert notification is not None
    assert (notification.body, notification.cursor) == (b"", entries[1].seq)


def test_messages_and_commits_come_in_log_order_with_the_hubs_time() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    message = room.submit(bob.message(), now=NOW + 1)
    commit = room.submit(handshake(alice, alice.joined().commit()), now=NOW + 2)
    entries = rows(message, commit)
    notification = next_notification(cursor=entries[0].seq - 1, entries=entries, welcomes=[])
    assert notification is not None
    assert roles(notification.body) == ["application", "commit"]
    assert [m.timestamp for m in decode_fanout_stream(notification.body)] == [NOW + 1, NOW + 2]
    assert notification.cursor == room.head_seq


def test_a_welcome_stands_right_after_its_commit_and_is_counted_once() -> None:
    room, alice, _ = grouped_room()
    first = room.submit(alice.add(Member(BOB)), now=NOW)
    alice.accept()
    second = room.submit(alice.message(), now=NOW)
    entries = rows(first, second)
    both = next_notification(cursor=entries[0].seq - 1, entries=entries, welcomes=[welcome_of(first, 7)])
    assert both is not None
    assert roles(both.body) == ["commit", "welcome", "application"]
    assert both.welcomes == 7
    from_the_commit_on = next_notification(
        cursor=first.entries[-1].seq, entries=rows(second), welcomes=[welcome_of(first, 7)]
    )
    assert from_the_commit_on is not None
    assert roles(from_the_commit_on.body) == ["welcome", "application"]


def test_a_welcome_for_an_entry_not_reached_yet_waits() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    message = room.submit(bob.message(), now=NOW)
    commit = room.submit(alice.add(Member("@bill:b.example")), now=NOW)
    notification = next_notification(
        cursor=message.entries[0].seq - 1, entries=rows(message), welcomes=[welcome_of(commit, 7)]
    )
    assert notification is not None
    assert (roles(notification.body), notification.welcomes) == (["application"], 0)


def test_nothing_new_is_no_notification() -> None:
    assert next_notification(cursor=9, entries=[], welcomes=[]) is None


def test_a_notification_is_cut_at_its_size_and_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bob = Member(BOB)
    room, _, _ = grouped_room(bob)
    entries = rows(*(room.submit(bob.message(), now=NOW) for _ in range(3)))
    monkeypatch.setattr(fanout, "MAX_NOTIFY_BYTES", 300)
    cursor, parts = entries[0].seq - 1, []
    while (
        part := next_notification(
            cursor=cursor, entries=[row for row in entries if row.seq > cursor], welcomes=[]
        )
    ) is not None:
        parts.append(part.body)
        cursor = part.cursor
    assert len(parts) == 3
    assert roles(b"".join(parts)) == ["application"] * 3


def test_welcomes_count_for_the_size_and_come_before_what_follows_their_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, alice, _ = grouped_room()
    batch = []
    for device in ("ONE", "TWO"):
        batch.append(room.submit(alice.add(Member(BOB, device)), now=NOW))
        alice.accept()
    batch.append(room.submit(alice.message(), now=NOW))
    entries = rows(*batch)
    # Two for the first commit, as if it had added clients in two Welcomes.
    welcomes = [welcome_of(batch[0], 7), welcome_of(batch[0], 8), welcome_of(batch[1], 9)]
    monkeypatch.setattr(fanout, "MAX_NOTIFY_BYTES", 1)
    cursor, seen = entries[0].seq - 1, []
    while (
        part := next_notification(
            cursor=cursor, entries=[row for row in entries if row.seq > cursor], welcomes=welcomes
        )
    ) is not None:
        seen.append((*roles(part.body), part.welcomes))
        cursor, welcomes = part.cursor, [row for row in welcomes if row.position > part.welcomes]
    assert seen == [
        ("commit", 0),
        ("welcome", 7),
        ("welcome", 8),
        ("commit", 0),
        ("welcome", 9),
        ("application", 0),
    ]


def test_proposals_accepted_together_are_fanned_out_together() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = Party(bob, phone)
    submission = leave(bob, phone)
    entries = rows(party.submit(submission, by=bob))
    notification = next_notification(cursor=entries[0].seq - 1, entries=entries, welcomes=[])
    assert notification is not None
    (message,) = decode_fanout_stream(notification.body)
    # "The moreProposals list in a FanoutMessage MUST be the same as the corresponding moreProposals list in
    # the HandshakeBundle of an UpdateRequest."
    assert message.message == submission.bundle.message
    assert message.more_proposals == submission.bundle.more_proposals
    assert notification.cursor == party.room.head_seq


def test_what_the_hub_proposes_after_an_external_commit_is_stapled_to_it() -> None:
    bob, phone, tablet = Member(BOB), Member(BOB, "PHONE"), Member(ALICE, "TABLET")
    party = Party(bob, phone)
    party.submit(leave(bob, phone), by=bob)
    entries = rows(party.submit(party.join(tablet), by=tablet))
    notification = next_notification(cursor=entries[0].seq - 1, entries=entries, welcomes=[])
    assert notification is not None
    commit, proposal = decode_fanout_stream(notification.body)
    assert commit.external_proposals == (proposal.message, *proposal.more_proposals)
    assert len(commit.external_proposals) == 2
    late = [entries[0], replace(entries[1], origin_server_ts=NOW + 1)]
    notification = next_notification(cursor=entries[0].seq - 1, entries=late, welcomes=[])
    assert notification is not None
    assert decode_fanout_stream(notification.body)[0].external_proposals == ()
