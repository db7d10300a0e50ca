"""Five people's conversation over five days, as data: what is said and done, by whom, when, and about what.

Pure and deterministic: the same start gives the same conversation, so every run bridges the same room.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

PEOPLE = ("alice", "bob", "carol", "dave", "erin")
DAY_MS = 86_400_000
DAYS = 5
# With the events of the room's creation and of the joins it makes more than the 300 asked for.
ACTIONS_PER_DAY = 62

_SUBJECTS = (
    "the boat",
    "the roof",
    "the kitchen table",
    "that old map",
    "the radio",
    "the garden",
    "the letter",
)
_VERBS = ("needs", "still wants", "could do with", "is missing", "was promised", "deserves")
_OBJECTS = (
    "new paint",
    "a second look",
    "two screws",
    "a warmer place",
    "an answer",
    "some oil",
    "our patience",
)
_FEELINGS = ("👍", "🎉", "❤️", "😂", "🤔", "🌧️")


class Kind(StrEnum):
    """Kinds of action; each becomes one event of the room."""

    TEXT = "text"
    FORMATTED = "formatted text"
    REPLY = "reply"
    EDIT = "edit"
    REACTION = "reaction"
    REDACTION = "redaction"
    IMAGE = "image"
    RENAME = "display name"
    LEAVE = "leave"
    JOIN = "join"
    TOPIC = "topic"
    NAME = "name"
    POWER = "power levels"


# How often each kind is drawn; the others are placed by hand below, so that every run has them.
_WEIGHTS = {
    Kind.TEXT: 55,
    Kind.FORMATTED: 10,
    Kind.REPLY: 12,
    Kind.EDIT: 8,
    Kind.REACTION: 12,
    Kind.REDACTION: 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action. ``at`` is in milliseconds since the epoch; ``about`` is the index of an earlier action."""

    kind: Kind
    sender: str  # localpart
    at: int
    text: str = ""
    about: int | None = None


def conversation(start: int, *, seed: int = 3995) -> list[Action]:
    """The actions from ``start`` (milliseconds since the epoch) on, in order, over ``DAYS`` days."""
    rng = random.Random(seed)  # noqa: S311 - small talk, no secret
    actions: list[Action] = []
    for day in range(DAYS):
        placed = _placed(day)
        for slot in range(ACTIONS_PER_DAY):
            # From nine in the morning, evenly, with a little unrest that never changes the order.
            at = start + day * DAY_MS + slot * 600_000 + rng.randrange(500_000)
            if slot in placed:
                kind, sender, text = placed[slot]
                actions.append(Action(kind=kind, sender=sender, at=at, text=text))
            else:
                actions.append(_drawn(rng, actions, at))
    return actions


def _placed(day: int) -> dict[int, tuple[Kind, str, str]]:
    """What must happen on a day, by slot: the room's state and the pictures do not hang on a draw."""
    person = PEOPLE[1 + day % 4]  # anyone but alice, who made the room
    placed = {
        0: (Kind.TOPIC, "alice", f"Day {day + 1}: what is broken, and who mends it"),
        20: (Kind.IMAGE, PEOPLE[day % 5], f"harbour-{day + 1}.png"),
        30: (Kind.LEAVE, person, ""),
        31: (Kind.JOIN, person, ""),
        40: (Kind.RENAME, person, f"{person.title()} of day {day + 1}"),
    }
    if day == 1:
        placed[1] = (Kind.NAME, "alice", "The Clubhouse")
        placed[2] = (Kind.POWER, "alice", "bob")
    return placed


def _drawn(rng: random.Random, actions: Sequence[Action], at: int) -> Action:
    sender = rng.choice(PEOPLE)
    kind = rng.choices(tuple(_WEIGHTS), weights=tuple(_WEIGHTS.values()))[0]
    about = _subject(rng, actions, kind, sender)
    if kind in (Kind.REPLY, Kind.EDIT, Kind.REACTION, Kind.REDACTION) and about is None:
        kind = Kind.TEXT
    text = rng.choice(_FEELINGS) if kind is Kind.REACTION else _sentence(rng)
    return Action(kind=kind, sender=sender, at=at, text=text, about=about)


def _sentence(rng: random.Random) -> str:
    words = (rng.choice(_SUBJECTS), rng.choice(_VERBS), rng.choice(_OBJECTS))
    return " ".join(words).capitalize() + rng.choice((".", "!", "?"))


def _subject(rng: random.Random, actions: Sequence[Action], kind: Kind, sender: str) -> int | None:
    """An earlier message that fits: one's own for an edit or a redaction, nothing already redacted."""
    if kind not in (Kind.REPLY, Kind.EDIT, Kind.REACTION, Kind.REDACTION):
        return None
    gone = {action.about for action in actions if action.kind is Kind.REDACTION}
    own = kind in (Kind.EDIT, Kind.REDACTION)
    fitting = [
        index
        for index, action in enumerate(actions)
        if action.kind in (Kind.TEXT, Kind.FORMATTED, Kind.REPLY)
        and index not in gone
        and (not own or action.sender == sender)
    ]
    return rng.choice(fitting[-12:]) if fitting else None


def message_content(action: Action, event_ids: Sequence[str]) -> dict[str, Any]:
    """The Matrix content of a message-like action; ``event_ids`` are those of the actions before it."""
    text = action.text
    if action.kind is Kind.TEXT or action.about is None:
        content: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if action.kind is Kind.FORMATTED:
            first, _, rest = text.partition(" ")
            content["format"] = "org.matrix.custom.html"
            content["formatted_body"] = f"<strong>{first}</strong> <em>{rest}</em>"
        return content
    target = event_ids[action.about]
    if action.kind is Kind.REPLY:
        return {"msgtype": "m.text", "body": text, "m.relates_to": {"m.in_reply_to": {"event_id": target}}}
    if action.kind is Kind.REACTION:
        return {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": text}}
    if action.kind is Kind.REDACTION:
        return {"redacts": target, "reason": "said too much"}
    return {
        "msgtype": "m.text",
        "body": f"* {text}",
        "m.new_content": {"msgtype": "m.text", "body": text},
        "m.relates_to": {"rel_type": "m.replace", "event_id": target},
    }
