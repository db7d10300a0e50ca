"""Push rules (Client-Server API, Push Rules): whether an event notifies a user, and whether as a highlight.

Rules are compiled once and then held against events. Both are other people's: a rule may hold anything, and
an event takes no more time than ``MAX_WORK`` allows whatever the rules are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from linearized.protocol.canonical import JsonObject
from linearized.protocol.globs import SLOW, Glob, TooMuchWorkError, Work, word_in
from linearized.protocol.push_rule_defaults import KINDS

# Characters looked at for one event, over all rules: the longest text an event holds, thirty times. At about
# a nanosecond for each this is some milliseconds, which only rules made for it take.
MAX_WORK: Final = 2_000_000
# "The legacy push rules that looked for mentions in the body … were disabled if the m.mentions field was
# present" (User and room mentions).
LEGACY_MENTIONS: Final = frozenset(
    {".m.rule.contains_display_name", ".m.rule.contains_user_name", ".m.rule.roomnotif"}
)
_BODY: Final = ("content", "body")
_MENTIONS: Final = ("content", "m.mentions")
_COUNT: Final = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})", re.ASCII)
_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "==": int.__eq__,
    "<": int.__lt__,
    ">": int.__gt__,
    "<=": int.__le__,
    ">=": int.__ge__,
}
_SCALARS: Final = (str, int, bool, type(None))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an event for one user."""

    notify: bool
    highlight: bool


NOTHING: Final = Outcome(notify=False, highlight=False)


class Surroundings(Protocol):
    """What conditions look at beside an event; asked for only when a condition does."""

    def joined_members(self, at_most: int) -> int:
        """How many are joined to the room; counted no further than ``at_most``."""
        ...

    def display_name(self) -> str | None:
        """The user's in the room."""
        ...

    def sender_may_notify(self, kind: str) -> bool:
        """Whether the event's sender has the power level that ``notifications`` asks for this kind."""
        ...


Condition: TypeAlias = Callable[[JsonObject, Surroundings, Work], bool]
Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    conditions: tuple[Condition, ...]
    outcome: Outcome
    legacy: bool


@dataclass(frozen=True, slots=True)
class PushRules:
    """A user's rules that are turned on and can match, in the order in which they are tried."""

    rules: tuple[_Rule, ...]

    def outcome(self, event: JsonObject, surroundings: Surroundings) -> Outcome:
        """What the first rule that matches says; nothing if none does, or if finding out takes more than
        ``MAX_WORK``.

        Args:
            event: a client event of somebody else than the user. "Homeservers MUST NOT notify … for events
                that the user has sent themselves."
        """
        mentions, work = property_of(event, _MENTIONS) is not None, Work(MAX_WORK)
        try:
            for rule in self.rules:
                if rule.legacy and mentions:
                    continue
                for condition in rule.conditions:
                    if not condition(event, surroundings, work):
                        break
                else:
                    return rule.outcome
        except TooMuchWorkError:
            return NOTHING
        return NOTHING


def compile_rules(rules: Mapping[str, Sequence[JsonObject]]) -> PushRules:
    """Read a ruleset: rules by kind, each with ``rule_id``, ``enabled`` and ``actions``, and ``conditions``
    or a ``pattern`` where its kind has them.
    """
    found: list[_Rule] = []
    for kind in KINDS:
        for rule in rules.get(kind, ()):
            # "Disabled rules never match."
            conditions = _conditions(kind, rule) if rule["enabled"] else None
            if conditions is not None:
                legacy = rule["rule_id"] in LEGACY_MENTIONS
                found.append(_Rule(conditions, outcome_of(rule["actions"]), legacy))
    return PushRules(tuple(found))


def outcome_of(actions: Iterable[Any]) -> Outcome:
    """What actions come to. ``dont_notify`` and ``coalesce`` of older versions MUST be ignored."""
    notify = highlight = False
    for action in actions:
        if action == "notify":
            notify = True
        elif isinstance(action, dict) and action.get("set_tweak") == "highlight":
            # "If a highlight tweak is given with no value, its value is defined to be true."
            highlight = action.get("value", True) is True
    return Outcome(notify=notify, highlight=notify and highlight)


def path_of(key: str) -> Path:
    r"""The property names in a dot-separated path; ``\.`` and ``\\`` stand for a dot and a backslash in a
    name (Matrix appendices, Dot-separated property paths).
    """
    names, name, position = [], "", 0
    while position < len(key):
        if key[position] == ".":
            names.append(name)
            name = ""
        elif key[position] == "\\" and key[position + 1 : position + 2] in {".", "\\"}:
            position += 1
            name += key[position]
        else:
            name += key[position]
        position += 1
    return (*names, name)


def property_of(event: JsonObject, path: Path) -> Any:
    """What stands at a path; None if nothing does, as for null, which ``has_property`` tells apart."""
    value: Any = event
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def has_property(event: JsonObject, path: Path) -> bool:
    """Whether anything stands at a path."""
    parent = property_of(event, path[:-1])
    return isinstance(parent, dict) and path[-1] in parent


def _conditions(kind: str, rule: JsonObject) -> tuple[Condition, ...] | None:
    """A rule's conditions, or None if it can never match."""
    match kind:
        case "content":
            return (_within(_BODY, rule["pattern"]),)
        case "room":
            return (_is(("room_id",), rule["rule_id"]),)
        case "sender":
            return (_is(("sender",), rule["rule_id"]),)
    found: list[Condition] = []
    for each in rule["conditions"]:
        condition = _condition(each)
        # "Unrecognised conditions MUST NOT match any events, effectively making the push rule disabled."
        if condition is None:
            return None
        found.append(condition)
    return tuple(found)


def _condition(condition: JsonObject) -> Condition | None:
    match condition:
        case {"kind": "contains_display_name"}:
            return _named
        case {"kind": "room_member_count", "is": str(text)}:
            return _members(text)
        case {"kind": "sender_notification_permission", "key": str(kind)}:
            return lambda _event, surroundings, _work: surroundings.sender_may_notify(kind)
        case {"kind": str(kind), "key": str(key)}:
            return _of_property(kind, path_of(key), condition)
    return None


def _of_property(kind: str, path: Path, condition: JsonObject) -> Condition | None:
    match kind, condition:
        case "event_match", {"pattern": str(pattern)}:
            # "As a special case, if key is content.body, then pattern must instead match any substring".
            return (_within if path == _BODY else _whole)(path, pattern)
        case "event_property_is", {"value": value} if isinstance(value, _SCALARS):
            return _is(path, value)
        case "event_property_contains", {"value": value} if isinstance(value, _SCALARS):
            return _contains(path, value)
    return None


def _whole(path: Path, pattern: str) -> Condition:
    glob = Glob.of(pattern)
    if glob.is_plain:
        return _exactly(path, pattern)

    def holds(event: JsonObject, _: Surroundings, work: Work) -> bool:
        value = property_of(event, path)
        return isinstance(value, str) and glob.matches(value, work)

    return holds


def _exactly(path: Path, pattern: str) -> Condition:
    """As ``_whole`` of a pattern in which nothing stands for anything else: nearly all of them name a type,
    and each event is held against those of a dozen rules. A value of another length is not looked at.
    """
    text, length = pattern.lower(), len(pattern)
    *parents, name = path
    above = tuple(parents)

    def holds(event: JsonObject, _surroundings: Surroundings, _work: Work) -> bool:
        parent = property_of(event, above) if above else event
        value = parent.get(name) if isinstance(parent, dict) else None
        return isinstance(value, str) and len(value) == length and value.lower() == text

    return holds


def _within(path: Path, pattern: str) -> Condition:
    glob = Glob.of(pattern)

    def holds(event: JsonObject, _: Surroundings, work: Work) -> bool:
        value = property_of(event, path)
        return isinstance(value, str) and glob.within(value, work)

    return holds


def _is(path: Path, wanted: Any) -> Condition:
    def holds(event: JsonObject, _surroundings: Surroundings, _work: Work) -> bool:
        value = property_of(event, path)
        # "Do not cast types": to Python, true is 1.
        if type(value) is not type(wanted) or value != wanted:
            return False
        return value is not None or has_property(event, path)

    return holds


def _contains(path: Path, wanted: Any) -> Condition:
    def holds(event: JsonObject, _: Surroundings, work: Work) -> bool:
        values = property_of(event, path)
        if not isinstance(values, list):
            return False
        work.spend(len(values) * SLOW)
        return any(type(value) is type(wanted) and value == wanted for value in values)

    return holds


def _named(event: JsonObject, surroundings: Surroundings, work: Work) -> bool:
    body = property_of(event, _BODY)
    name = surroundings.display_name() if isinstance(body, str) else None
    return bool(name) and word_in(name or "", body, work)


def _members(text: str) -> Condition | None:
    parsed = _COUNT.fullmatch(text)
    if parsed is None:
        return None
    number, compare = int(parsed[2]), _COMPARE[parsed[1] or "=="]
    return lambda _event, surroundings, _work: compare(surroundings.joined_members(number + 1), number)
