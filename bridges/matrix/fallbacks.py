"""Matrix events that MIMI has no form for, as texts that people can read: nothing vanishes silently.

Polls (Matrix v1.7 and MSC3381), calls, encrypted events, and whatever a client or a bot invents. What is
only for programs, such as the messages by which two clients set up a call, is left out, with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Content = Mapping[str, Any]

POLL_START = frozenset({"m.poll.start", "org.matrix.msc3381.poll.start"})
POLL_RESPONSE = frozenset({"m.poll.response", "org.matrix.msc3381.poll.response"})
POLL_END = frozenset({"m.poll.end", "org.matrix.msc3381.poll.end"})
# A poll has at most 20 answers ("the maximum number of answers is 20"); more is somebody's joke.
MAX_ANSWERS = 20
# Event types of which only the first in a conversation means anything to people, or none does.
_FOR_PROGRAMS = (
    "m.call.",
    "m.key.verification.",
    "org.matrix.call.",
    "org.matrix.msc3672.beacon",
    "m.beacon",
)
_CALLS = frozenset({"m.call.invite"})


def is_for_programs(kind: str) -> bool:
    """Whether events of this type say nothing to people."""
    return kind.startswith(_FOR_PROGRAMS) and kind not in _CALLS


def readable(kind: str, content: Content, poll: Content | None = None) -> str:
    """What an event says, as text; ``poll`` is the content of the poll that a vote or an end is about."""
    for kinds, say in _SAID:
        if kind in kinds:
            return say(content, poll)
    return text_of(content) or f"[an event of type {kind}, which has no form here]"


def about(content: Content) -> str | None:
    """The event a vote or the end of a poll refers to."""
    relation = content.get("m.relates_to")
    target = relation.get("event_id") if isinstance(relation, Mapping) else None
    return target if isinstance(target, str) else None


def _poll(content: Content, poll: Content | None) -> str:
    del poll
    question, answers = _question(content), _answers(content)
    numbered = [f"{number}. {text}" for number, text in enumerate(answers.values(), 1)]
    return "\n".join([f"Poll: {question or '(no question)'}", *numbered])


def _vote(content: Content, poll: Content | None) -> str:
    start = _part(content, "poll.response", "m.poll.response")
    chosen = content.get("m.selections")
    if not isinstance(chosen, list):
        chosen = start.get("answers")
    chosen = [item for item in chosen if isinstance(item, str)] if isinstance(chosen, list) else []
    answers = _answers(poll) if poll is not None else {}
    names = [answers[item] for item in chosen[:MAX_ANSWERS] if item in answers]
    if names:
        return f"Voted: {', '.join(names)}"
    return "Voted" if chosen else "Took their vote back"


def _end(content: Content, poll: Content | None) -> str:
    del poll
    return text_of(content) or "The poll is over"


def _call(content: Content, poll: Content | None) -> str:
    del content, poll
    return "[calls in Matrix; the bridge carries no calls]"


def _encrypted(content: Content, poll: Content | None) -> str:
    del content, poll
    return "[a message encrypted in Matrix, which the bridge cannot read]"


_SAID: tuple[tuple[frozenset[str], Callable[[Content, Content | None], str]], ...] = (
    (POLL_START, _poll),
    (POLL_RESPONSE, _vote),
    (POLL_END, _end),
    (_CALLS, _call),
    (frozenset({"m.room.encrypted"}), _encrypted),
)


def _question(content: Content) -> str:
    return text_of(_object(_start(content).get("question")))


def _answers(content: Content) -> dict[str, str]:
    """The texts of a poll's answers by their IDs."""
    answers = _start(content).get("answers")
    found: dict[str, str] = {}
    for answer in answers[:MAX_ANSWERS] if isinstance(answers, list) else []:
        one = _object(answer)
        name = one.get("m.id", one.get("id"))
        if isinstance(name, str):
            found[name] = text_of(one) or name
    return found


def _start(content: Content) -> Content:
    return _part(content, "poll.start", "m.poll")


def _part(content: Content, unstable: str, stable: str) -> Content:
    return _object(content.get(stable)) or _object(content.get(f"org.matrix.msc3381.{unstable}"))


def _object(value: object) -> Content:
    return value if isinstance(value, Mapping) else {}


def text_of(content: Content) -> str:
    """The text in an extensible event or its fallback; empty if there is none."""
    for name in ("body", "m.text", "org.matrix.msc1767.text"):
        value = content.get(name)
        if isinstance(value, str) and value:
            return value
        # "m.text" is a list of representations; the first that is plain will do.
        for item in value if isinstance(value, list) else []:
            one = _object(item)
            if one.get("mimetype", "text/plain") == "text/plain" and isinstance(one.get("body"), str):
                return str(one["body"])
    return ""
