"""Status reports, against the draft's example and its schema."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi import _cbor
from linearized.mimi.content import MimiContent, MultiPart, PartSemantics, SinglePart, text
from linearized.mimi.message_status import (
    CONTENT_TYPE,
    MAX_STATUSES,
    MessageStatus,
    StatusReport,
    report_in,
    status_report,
)
from tests.mimi.test_content import SALT

# The example of draft-mahy-mimi-message-status: two messages read, one unread, one expired.
EXAMPLE = bytes.fromhex(
    "84"
    "825820017ce54837404c3696e0c747b985cb172716d0ed0a3d249ca63ace7d82a096f402"
    "825820015354973c2b65ca937bf1e035ae53a5ab80e947afa43d46920d4202e5cc0b2702"
    "825820018d825adf9f6be00dcafc5704c4102f5022e74219d0b603e4ba7622654042af00"
    "82582001e59db8173939facc2c8a4a0f0ae8d0c7a11a81239626630c9464a8d6717a0303"
)
FIRST = bytes.fromhex("017ce54837404c3696e0c747b985cb172716d0ed0a3d249ca63ace7d82a096f4")


def test_the_drafts_example_decodes_to_what_it_shows_and_encodes_to_the_same_bytes() -> None:
    report = StatusReport.decode(EXAMPLE)
    assert [status for _, status in report.statuses] == [
        MessageStatus.READ,
        MessageStatus.READ,
        MessageStatus.UNREAD,
        MessageStatus.EXPIRED,
    ]
    assert report.statuses[0][0] == FIRST
    assert report.encode() == EXAMPLE


def test_a_report_travels_as_a_message_of_its_own_media_type() -> None:
    statuses = ((FIRST, MessageStatus.READ),)
    message = status_report(statuses, salt=SALT)
    assert message.part == SinglePart(content_type=CONTENT_TYPE, content=StatusReport(statuses).encode())
    assert report_in(MimiContent.decode(message.encode())) == StatusReport(statuses)


def test_another_message_carries_no_report() -> None:
    assert report_in(text("read", salt=SALT)) is None
    part = SinglePart(content_type=CONTENT_TYPE, content=EXAMPLE)
    parts = MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=(part, part))
    assert report_in(MimiContent(salt=SALT, part=parts)) is None


@pytest.mark.parametrize(
    "value",
    [
        (),
        7,
        {1: 2},
        (7,),
        ((FIRST,),),
        ((FIRST, 2, 2),),
        ((FIRST[1:], 2),),
        ((FIRST.hex(), 2),),
        ((FIRST, 7),),
        ((FIRST, -1),),
        ((FIRST, True),),
        ((FIRST, "read"),),
        ((FIRST, 2),) * (MAX_STATUSES + 1),
    ],
)
def test_what_is_not_of_the_schema_is_refused(value: Any) -> None:
    with pytest.raises(MimiDecodeError):
        StatusReport.decode(_cbor.dumps(value))


@pytest.mark.parametrize("data", [b"", EXAMPLE + b"\x00", EXAMPLE[:-1], b"\x9f\xff"])
def test_what_is_not_one_deterministic_value_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        StatusReport.decode(data)


def test_a_report_out_of_bounds_is_not_made() -> None:
    with pytest.raises(ValueError, match="1000"):
        StatusReport(()).encode()


def test_a_message_that_only_says_it_is_a_report_is_refused() -> None:
    content = MimiContent(salt=SALT, part=SinglePart(content_type=CONTENT_TYPE, content=b"\x80"))
    with pytest.raises(MimiDecodeError):
        report_in(content)
