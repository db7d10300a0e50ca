"""Events held back until the handshake they name comes."""

from __future__ import annotations

import pytest

from linearized.protocol.build import build_event
from linearized.protocol.events import Event
from linearized.protocol.versions import get_version
from linearized.server import held_back
from linearized.server.held_back import HeldBack
from tests.room.support import BOB, NOW, ROOM, A

NAME, OTHER = "A" * 43, "B" * 42 + "A"


def chain(*named: str | None, after: str = "$before") -> list[Event]:
    """Memberships that follow one another, each with what it says it follows from."""
    found: list[Event] = []
    for name in named:
        vouched = {"protocol": "mimi", "provider": "b.example", "mls": name}
        found.append(
            build_event(
                identity=A,
                version=get_version("dev.linearized.1"),
                room_id=ROOM,
                type="m.room.member" if name is not None else "m.room.message",
                sender=BOB if name is not None else "@alice:a.example",
                content={"number": len(found)},
                origin_server_ts=NOW,
                auth_events=[],
                prev_events=[found[-1].event_id if found else after],
                state_key=BOB if name is not None else None,
                provenance=vouched if name is not None else None,
            )
        )
    return found


def test_what_waits_for_the_same_handshake_is_put_behind_what_waits_and_not_looked_at() -> None:
    held, (first, second, third, last) = HeldBack(), chain(NAME, NAME, NAME, None)
    held.keep(ROOM, [first])
    assert held.joined(ROOM, []) == []
    assert held.joined(ROOM, [first]) == [], "it is sent once more"
    assert held.joined(ROOM, [first, second]) == []
    assert held.joined(ROOM, [third, last]) == [first, second, third, last]
    # Until it has been taken it waits: refused, it is so again.
    assert held.joined(ROOM, [third, last]) == [first, second, third, last]
    held.keep(ROOM, [])
    assert held.joined(ROOM, [last]) == [last]


def test_what_names_another_handshake_is_looked_at() -> None:
    held, (first, second) = HeldBack(), chain(NAME, OTHER)
    held.keep(ROOM, [first])
    assert held.joined(ROOM, [second]) == [first, second]


def test_what_does_not_follow_is_looked_at_by_itself() -> None:
    held, (first, _, third) = HeldBack(), chain(NAME, NAME, NAME)
    held.keep(ROOM, [first])
    assert held.joined(ROOM, [third]) == [third]


def test_beyond_a_bound_the_room_that_waits_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_back, "MAX_HELD", 3)
    held, events = HeldBack(), chain(NAME, NAME, None)
    held.keep(ROOM, events[:2])
    held.keep("!other:a.example", events[:1])
    assert held.joined(ROOM, events[2:]) == events
    held.keep("!third:a.example", events[:1])
    assert held.joined(ROOM, events[2:]) == events[2:]
    assert held.joined("!other:a.example", events[1:2]) == []
