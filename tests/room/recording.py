"""Everything that rooms become, as their hubs would store it: the events, and the epoch after each."""

from __future__ import annotations

import pytest

from linearized.protocol.events import Event
from linearized.room.participation import StateChange
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Submission

Entries = list[tuple[Event, int | None]]


def recorded(monkeypatch: pytest.MonkeyPatch) -> Entries:
    """From now on, the entries of every room."""
    found: Entries = []
    original = Room.submit

    def submit(room: Room, submission: Submission, *, now: int) -> Accepted:
        accepted = original(room, submission, now=now)
        found.extend((entry.event, entry.epoch) for entry in accepted.entries)
        return accepted

    monkeypatch.setattr(Room, "submit", submit)
    return found


def lying(monkeypatch: pytest.MonkeyPatch, *changes: StateChange) -> pytest.MonkeyPatch:
    """A hub that writes more than a commit says."""
    monkeypatch.setattr("linearized.room.handshakes.join_rule_changes", lambda *_, **__: changes)
    return monkeypatch


def member_change(sender: str, target: str, value: str) -> StateChange:
    """A membership that a hub writes."""
    content = {"membership": value}
    return StateChange(sender=sender, type="m.room.member", state_key=target, content=content)
