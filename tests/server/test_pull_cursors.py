"""Cursors of pull followers: what was given comes back as it was, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.server.pull_cursors import MAX_CURSOR_CHARACTERS, CursorSeal, Position, UnknownCursor
from tests.room.support import A, B

SEAL = CursorSeal(A.key)
POSITION = Position(room_id="!clubhouse:a.example", seq=7, welcomes=3)


@given(
    room_id=st.text(st.characters(codec="utf-8"), max_size=60),
    seq=st.integers(0, 2**32),
    welcomes=st.integers(0, 2**62),
)
def test_a_cursor_opens_to_the_position_it_was_made_of(room_id: str, seq: int, welcomes: int) -> None:
    position = Position(room_id=room_id, seq=seq, welcomes=welcomes)
    cursor = SEAL.seal("b.example", position)
    assert cursor.isascii()
    assert len(cursor) <= MAX_CURSOR_CHARACTERS
    assert CursorSeal(A.key).open("b.example", cursor) == position


def test_a_position_has_one_cursor() -> None:
    assert SEAL.seal("b.example", POSITION) == CursorSeal(A.key).seal("b.example", POSITION)


def test_the_cursor_of_another_follower_or_server_is_unknown() -> None:
    cursor = SEAL.seal("b.example", POSITION)
    for seal, provider in ((SEAL, "c.example"), (CursorSeal(B.key), "b.example")):
        with pytest.raises(UnknownCursor, match="not given to this follower"):
            seal.open(provider, cursor)


def test_a_changed_cursor_is_unknown() -> None:
    cursor = SEAL.seal("b.example", POSITION)
    for index, character in enumerate(cursor):
        if index == len(cursor) - 1:
            continue  # the last character of base64 may hold bits that count for nothing
        other = "A" if character != "A" else "B"
        with pytest.raises(UnknownCursor):
            SEAL.open("b.example", cursor[:index] + other + cursor[index + 1 :])


@pytest.mark.parametrize(
    "cursor", ["", ".", "a", "a.b.c", "\u00e9", "W10.W10", "x" * (MAX_CURSOR_CHARACTERS + 1)]
)
def test_what_is_no_cursor_is_unknown(cursor: str) -> None:
    with pytest.raises(UnknownCursor):
        SEAL.open("b.example", cursor)
