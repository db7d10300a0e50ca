"""What a hub believes of an abuse report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import SignatureError
from linearized.mimi.abuse import AbuseReport, AbuseReportError, AbusiveMessage, check_report
from linearized.mimi.content import sender_extensions, text
from linearized.mimi.franking import ServerFrankingContext, Verify, franking_tag, make_frank
from tests.mimi.test_franking import ALICE, HUB_KEY, ROOM, SALT, sign, verify

SUITE = 1


def reported(*, sender: str = ALICE, room: str = ROOM, when: int = 5, suite: int = SUITE) -> AbusiveMessage:
    content = text("hi", salt=SALT, extensions=sender_extensions(sender_uri=sender, room_uri=room)).encode()
    frank = make_frank(
        hub_key=HUB_KEY,
        tag=franking_tag(salt=SALT, application_data=content),
        context=ServerFrankingContext(sender_uri=sender, room_uri=room, accepted_timestamp=when),
        cipher_suite=suite,
        sign=sign,
    )
    return AbusiveMessage(message_content=content, frank=frank, accepted_timestamp=when)


def check(*messages: AbusiveMessage, hub_key: bytes = HUB_KEY) -> None:
    def verify_of(cipher_suite: int) -> Verify | None:
        return verify if cipher_suite == SUITE else None

    report = AbuseReport(alleged_abuser_uri=ALICE, messages=messages)
    check_report(report, room_uri=ROOM, hub_key=hub_key, verify_of=verify_of)


def test_messages_that_the_hub_stamped_are_believed() -> None:
    check(reported(), reported(when=6))
    check()


def forged(message: AbusiveMessage) -> AbusiveMessage:
    return replace(message, frank=replace(message.frank, franking_integrity_signature=bytes(64)))


@pytest.mark.parametrize(
    "message",
    [
        replace(reported(), accepted_timestamp=6),
        replace(reported(), frank=replace(reported().frank, server_frank=bytes(32))),
        forged(reported()),
        replace(reported(), message_content=reported(sender=ALICE).message_content + b"\0"),
        reported(sender="mimi://b.example/u/bob"),
        reported(room="mimi://a.example/r/other"),
        reported(suite=2),
        replace(reported(), message_content=text("hi", salt=SALT).encode()),
        replace(
            reported(),
            message_content=text(
                "other words", salt=SALT, extensions=sender_extensions(sender_uri=ALICE, room_uri=ROOM)
            ).encode(),
        ),
    ],
    ids=[
        "another time",
        "another stamp",
        "another signature",
        "unreadable",
        "of somebody else",
        "to another room",
        "another cipher suite",
        "without claims",
        "other content",
    ],
)
def test_a_report_with_a_message_that_was_changed_is_refused_whole(message: AbusiveMessage) -> None:
    with pytest.raises(AbuseReportError):
        check(reported(), message)


def test_another_hubs_stamp_is_not_this_hubs() -> None:
    with pytest.raises(AbuseReportError) as raised:
        check(reported(), hub_key=b"x" * 32)
    assert isinstance(raised.value.__cause__, SignatureError)
