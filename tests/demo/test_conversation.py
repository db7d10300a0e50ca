"""The existing room's conversation has what the demonstration promises, and hangs together."""

from __future__ import annotations

from collections import Counter

import pytest

from linearized.demo.conversation import DAY_MS, DAYS, PEOPLE, Kind, conversation, message_content

START = 1_700_000_000_000
ACTIONS = conversation(START)


def test_it_has_at_least_three_hundred_actions_of_every_kind() -> None:
    assert len(ACTIONS) >= 300
    assert set(Counter(action.kind for action in ACTIONS)) == set(Kind)


def test_everybody_speaks() -> None:
    assert {action.sender for action in ACTIONS if action.kind is Kind.TEXT} == set(PEOPLE)


def test_time_only_goes_forward_over_several_days() -> None:
    times = [action.at for action in ACTIONS]
    assert times == sorted(set(times))
    assert times[0] >= START
    assert times[-1] - times[0] > (DAYS - 1) * DAY_MS


def test_it_is_the_same_every_time() -> None:
    assert conversation(START) == ACTIONS


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.EDIT, Kind.REACTION, Kind.REDACTION])
def test_what_is_about_something_is_about_an_earlier_message(kind: Kind) -> None:
    for index, action in enumerate(ACTIONS):
        if action.kind is kind:
            assert action.about is not None
            assert action.about < index
            assert ACTIONS[action.about].kind in (Kind.TEXT, Kind.FORMATTED, Kind.REPLY)


@pytest.mark.parametrize("kind", [Kind.EDIT, Kind.REDACTION])
def test_nobody_edits_or_redacts_another_ones_message(kind: Kind) -> None:
    for action in ACTIONS:
        if action.kind is kind and action.about is not None:
            assert ACTIONS[action.about].sender == action.sender


def test_nobody_speaks_between_leaving_and_joining_again() -> None:
    away: set[str] = set()
    for action in ACTIONS:
        if action.kind is Kind.LEAVE:
            away.add(action.sender)
        elif action.kind is Kind.JOIN:
            away.remove(action.sender)
        else:
            assert action.sender not in away
    assert not away


def test_relations_name_the_event_they_are_about() -> None:
    ids = [f"${index}" for index in range(len(ACTIONS))]
    shapes = {
        Kind.REPLY: lambda content: content["m.relates_to"]["m.in_reply_to"]["event_id"],
        Kind.EDIT: lambda content: content["m.relates_to"]["event_id"],
        Kind.REACTION: lambda content: content["m.relates_to"]["event_id"],
        Kind.REDACTION: lambda content: content["redacts"],
    }
    for action in ACTIONS:
        if action.kind in shapes:
            assert shapes[action.kind](message_content(action, ids)) == f"${action.about}"


def test_formatted_text_carries_html() -> None:
    formatted = next(action for action in ACTIONS if action.kind is Kind.FORMATTED)
    content = message_content(formatted, [])
    assert content["format"] == "org.matrix.custom.html"
    assert content["formatted_body"].startswith("<strong>")
