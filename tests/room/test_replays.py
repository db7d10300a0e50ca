"""Somebody else's ciphertext is taken from nobody a second time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import user_uri
from linearized.room.admission import ALGORITHM
from linearized.room.replays import MAX_MESSAGES, Replays, fingerprint
from linearized.room.submissions import ApplicationMessage, LocalEvent, Reason, Rejected, Submission
from tests.room.lpdus import lpdu
from tests.room.support import ALICE, BOB, NOW, Member, grouped_room
from tests.room.support import refusal as refused


def as_event(message: ApplicationMessage) -> dict[str, str]:
    return {"algorithm": ALGORITHM, "ciphertext": encode_base64(message.message), "commit_event_id": "$x"}


def as_local(message: ApplicationMessage, sender: str) -> Submission:
    return LocalEvent(sender=sender, type="m.room.encrypted", content=as_event(message))


def as_mimi(message: ApplicationMessage, sender: str) -> Submission:
    return replace(message, sending_uri=user_uri(sender), provider=sender.partition(":")[2])


def as_lpdu(message: ApplicationMessage, sender: str) -> Submission:
    return lpdu("m.room.encrypted", as_event(message), sender=sender)


@pytest.mark.parametrize("again", [as_mimi, as_lpdu], ids=["MIMI", "Linearized Matrix"])
@pytest.mark.parametrize("first", [as_local, as_mimi], ids=["client", "MIMI"])
def test_what_somebody_has_sent_nobody_else_sends(first: object, again: object) -> None:
    assert callable(first)
    assert callable(again)
    room, alice, _ = grouped_room(Member(BOB))
    message = alice.message()
    room.submit(first(message, ALICE), now=NOW)
    refused(room, again(message, BOB), Reason.FORBIDDEN)


def test_what_was_refused_is_nobodys_yet() -> None:
    room, alice, _ = grouped_room(Member(BOB))
    message = alice.message()
    refused(room, as_mimi(message, "@carol:c.example"), Reason.FORBIDDEN)
    assert len(room.log.group.replays) == 0
    room.submit(as_mimi(message, ALICE), now=NOW)


def test_the_sender_itself_may_repeat_a_message_until_the_epoch_ends() -> None:
    room, alice, _ = grouped_room(Member(BOB))
    message = alice.message()
    for _ in range(2):
        room.submit(as_local(message, ALICE), now=NOW)
    commit = alice.add(Member(BOB, "PHONE"))
    room.submit(commit, now=NOW)
    refused(room, as_mimi(message, BOB), Reason.WRONG_EPOCH)
    assert len(room.log.group.replays) == 0


def test_the_latest_messages_are_remembered() -> None:
    sent = [fingerprint(b"%d" % number, ALICE) for number in range(MAX_MESSAGES + 1)]
    replays = Replays(sent)
    for number, found in ((1, True), (MAX_MESSAGES, True), (0, False)):
        if found:
            with pytest.raises(Rejected, match="somebody else"):
                replays.check(fingerprint(b"%d" % number, BOB))
        else:
            replays.check(fingerprint(b"%d" % number, BOB))


def test_a_message_stays_its_first_senders() -> None:
    replays = Replays([fingerprint(b"one", ALICE), fingerprint(b"one", BOB)])
    replays.check(fingerprint(b"one", ALICE))
    with pytest.raises(Rejected):
        replays.check(fingerprint(b"one", BOB))
