from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.matrix.fallbacks import MAX_ANSWERS, about, is_for_programs, readable, text_of

UNSTABLE = {
    "org.matrix.msc3381.poll.start": {
        "question": {"org.matrix.msc1767.text": "Tea?"},
        "answers": [
            {"id": "a", "org.matrix.msc1767.text": "Yes"},
            {"id": "b", "org.matrix.msc1767.text": "No"},
        ],
    }
}
STABLE = {
    "m.poll": {
        "question": {"m.text": [{"mimetype": "text/html", "body": "<b>Tea?</b>"}, {"body": "Tea?"}]},
        "answers": [
            {"m.id": "a", "m.text": [{"body": "Yes"}]},
            {"m.id": "b", "m.text": [{"body": "No"}]},
        ],
    }
}


@pytest.mark.parametrize(
    ("kind", "content"), [("org.matrix.msc3381.poll.start", UNSTABLE), ("m.poll.start", STABLE)]
)
def test_a_poll_is_its_question_and_numbered_answers(kind: str, content: dict[str, Any]) -> None:
    assert readable(kind, content) == "Poll: Tea?\n1. Yes\n2. No"


def test_a_poll_that_is_none_says_as_much() -> None:
    assert readable("m.poll.start", {"m.poll": {"answers": "none"}}) == "Poll: (no question)"
    many = {"m.poll": {"answers": [{"m.id": str(number)} for number in range(MAX_ANSWERS + 5)]}}
    assert len(readable("m.poll.start", many).splitlines()) == 1 + MAX_ANSWERS


@pytest.mark.parametrize("poll", [UNSTABLE, STABLE])
def test_a_vote_names_the_answers(poll: dict[str, Any]) -> None:
    stable = {"m.selections": ["b", "gone"]}
    unstable = {"org.matrix.msc3381.poll.response": {"answers": ["b", 7]}}
    assert readable("m.poll.response", stable, poll) == "Voted: No"
    assert readable("org.matrix.msc3381.poll.response", unstable, poll) == "Voted: No"


def test_a_vote_without_its_poll_is_a_vote() -> None:
    assert readable("m.poll.response", {"m.selections": ["b"]}) == "Voted"
    assert readable("m.poll.response", {"m.selections": []}) == "Took their vote back"
    assert readable("m.poll.response", {"m.selections": "b"}) == "Took their vote back"


def test_the_end_of_a_poll_is_what_its_client_says_of_it() -> None:
    assert readable("m.poll.end", {"m.text": [{"body": "Yes won"}]}) == "Yes won"
    assert readable("m.poll.end", {"m.poll.results": {}}) == "The poll is over"


def test_calls_and_encrypted_messages_are_named_and_their_machinery_is_not() -> None:
    assert "calls" in readable("m.call.invite", {"offer": {}})
    assert "encrypted" in readable("m.room.encrypted", {"ciphertext": "x", "body": "no"})
    assert is_for_programs("m.call.candidates")
    assert is_for_programs("m.key.verification.start")
    assert not is_for_programs("m.call.invite")
    assert not is_for_programs("org.example.game")


def test_what_nobody_knows_is_its_text_or_its_name() -> None:
    assert readable("org.example.game", {"body": "e4"}) == "e4"
    assert readable("org.example.game", {"move": 1}) == (
        "[an event of type org.example.game, which has no form here]"
    )


def test_a_vote_is_about_the_event_it_names() -> None:
    assert about({"m.relates_to": {"event_id": "$poll"}}) == "$poll"
    assert about({"m.relates_to": "$poll"}) is None
    assert about({"m.relates_to": {"event_id": 7}}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["m.poll", "org.matrix.msc3381.poll.start", "m.selections", "body", "m.text", "question", "answers"]
CONTENT = st.dictionaries(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(NAMES), JSON) | JSON)


@given(st.sampled_from(["m.poll.start", "m.poll.response", "m.poll.end", "x"]), CONTENT, CONTENT | st.none())
def test_any_content_has_a_text(kind: str, content: dict[str, Any], poll: dict[str, Any] | None) -> None:
    assert readable(kind, content, poll)
    assert isinstance(text_of(content), str)
