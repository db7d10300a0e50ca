"""Whom a room is known by."""

from __future__ import annotations

from linearized.server.clients.room_members import MAX_HEROES, heroes_of
from linearized.store.base import MembershipRow


def rows(*members: tuple[str, str]) -> list[MembershipRow]:
    """Memberships in the order in which they came."""
    return [
        MembershipRow(room_id="!r:x", user_id=user_id, membership=membership, seq=seq)
        for seq, (user_id, membership) in enumerate(members, 1)
    ]


def test_heroes_are_the_first_that_are_joined_or_invited_without_oneself() -> None:
    everybody = rows(("@z", "join"), ("@me", "join"), ("@gone", "leave"), ("@a", "invite"), ("@k", "knock"))
    assert heroes_of(reversed(everybody), "@me") == ["@z", "@a"]


def test_where_nobody_else_is_left_heroes_are_those_who_were_there() -> None:
    assert heroes_of(rows(("@me", "join"), ("@b", "ban"), ("@a", "leave")), "@me") == ["@b", "@a"]
    assert heroes_of(rows(("@me", "join")), "@me") == []


def test_there_are_only_so_many_heroes() -> None:
    many = rows(*((f"@{n:02}", "join") for n in range(MAX_HEROES + 3)))
    assert heroes_of(many, "@me") == [f"@{n:02}" for n in range(MAX_HEROES)]
