"""What counts as a relation."""

from __future__ import annotations

import pytest

from linearized.store.relations import redacted_by, relation_of


@pytest.mark.parametrize(
    "pdu",
    [
        b"{}",
        b'{"content":{}}',
        b'not JSON "m.relates_to"',
        b'{"content":{"m.relates_to":7}}',
        b'{"content":{"m.relates_to":{"event_id":"$1"}}}',
        b'{"content":{"m.relates_to":{"event_id":1,"rel_type":"x"}}}',
        b'{"content":{"m.relates_to":{"event_id":"$1","rel_type":["x"]}}}',
        b'{"content":{"m.relates_to":{"event_id":"$1","rel_type":"' + b"x" * 256 + b'"}}}',
        b'{"content":{"body":"\\"m.relates_to\\""}}',
        b'{"content":{"m.relates_to":{"event_id":"$1","rel_type":""}}}',
    ],
)
def test_what_is_no_relation_is_none(pdu: bytes) -> None:
    assert relation_of(pdu) is None


def test_a_relation_is_an_event_and_a_kind() -> None:
    pdu = b'{"content":{"m.relates_to":{"event_id":"$1","rel_type":"m.thread"}}}'
    assert relation_of(pdu) == ("$1", "m.thread")


@pytest.mark.parametrize(
    "pdu",
    [
        b'{"content":{"redacts":"$1"},"type":"m.room.message"}',
        b'{"content":{"redacts":"$1"},"of":"m.room.redaction","type":"m.room.message"}',
        b'{"content":{"redacts":"$1"},"state_key":"","type":"m.room.redaction"}',
        b'{"content":{"redacts":1},"type":"m.room.redaction"}',
        b'{"content":{},"type":"m.room.redaction"}',
        b'{"content":{"redacts":"' + b"x" * 256 + b'"},"type":"m.room.redaction"}',
        b'not JSON "m.room.redaction"',
    ],
)
def test_what_is_no_redaction_redacts_nothing(pdu: bytes) -> None:
    assert redacted_by(pdu) is None


def test_a_redaction_names_an_event() -> None:
    assert redacted_by(b'{"content":{"redacts":"$1"},"type":"m.room.redaction"}') == "$1"
