"""Push rules held against events: each condition, each kind of rule, each predefined rule, and what hostile
ones cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol import push_rules as module
from linearized.protocol.globs import Work
from linearized.protocol.push_rule_defaults import KINDS, default_rules
from linearized.protocol.push_rules import (
    NOTHING,
    Outcome,
    compile_rules,
    has_property,
    outcome_of,
    path_of,
    property_of,
)

ALICE = "@alice:a.example"
NOTIFY, HIGHLIGHT = Outcome(notify=True, highlight=False), Outcome(notify=True, highlight=True)


@dataclass(frozen=True)
class Room:
    """A room as conditions see it."""

    members: int = 3
    name: str | None = "Alice L."
    permitted: tuple[str, ...] = ()

    def joined_members(self, at_most: int) -> int:
        return min(self.members, at_most)

    def display_name(self) -> str | None:
        return self.name

    def sender_may_notify(self, kind: str) -> bool:
        return kind in self.permitted


ROOM = Room()


def event(kind: str = "m.room.message", state_key: str | None = None, /, **content: Any) -> Any:
    found = {"type": kind, "sender": "@bob:b.example", "room_id": "!r:a.example", "content": content}
    return found | ({"state_key": state_key} if state_key is not None else {})


def rule(rule_id: str = "own", *conditions: Any, actions: Any = ("notify",), **more: Any) -> Any:
    body = {"rule_id": rule_id, "enabled": True, "default": False, "actions": list(actions)}
    return body | {"conditions": list(conditions)} | more


def outcome(told: Any, *conditions: Any, room: Room = ROOM) -> Outcome:
    return compile_rules({"override": [rule("own", *conditions)]}).outcome(told, room)


def match(key: str, pattern: Any) -> Any:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def has(kind: str, key: Any, value: Any) -> Any:
    return {"kind": f"event_property_{kind}", "key": key, "value": value}


HELLO = event(msgtype="m.text", body="Hello, what an example", number=1, flag=True, none=None)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (match("type", "m.room.message"), True),
        (match("type", "m.room.*"), True),
        (match("type", "m.room"), False),
        (match("room_id", "!r:*"), True),
        (match("state_key", ""), False),
        (match("state_key", "*"), False),
        (match("content.body", "hello"), True),
        (match("content.body", "ex*ple"), True),
        (match("content.body", "exam"), False),
        (match("content.msgtype", "M.TEXT"), True),
        (match("content.msgtype", "text"), False),
        (match("content.number", "1"), False),
        (match("content", "*"), False),
        (match("content.body.more", "*"), False),
        (match("type", 1), None),
        ({"kind": "event_match", "pattern": "x"}, None),
        ({"kind": "event_match", "key": "type"}, None),
        (has("is", "content.number", 1), True),
        (has("is", "content.number", True), False),
        (has("is", "content.flag", True), True),
        (has("is", "content.flag", 1), False),
        (has("is", "content.flag", "true"), False),
        (has("is", "content.none", None), True),
        (has("is", "content.absent", None), False),
        (has("is", "content.body.x", None), False),
        (has("is", "type", "m.room.message"), True),
        (has("is", "type", "M.room.message"), False),
        (has("is", "content", []), None),
        (has("is", 1, 1), None),
        ({"kind": "event_property_is", "key": "type"}, None),
        (has("contains", "content.body", "Hello, what an example"), False),
        (has("contains", "content", []), None),
        (has("contains", 1, 1), None),
        ({"kind": "contains_display_name"}, False),
        ({"kind": "room_member_count", "is": "3"}, True),
        ({"kind": "room_member_count", "is": "==3"}, True),
        ({"kind": "room_member_count", "is": "2"}, False),
        ({"kind": "room_member_count", "is": "4"}, False),
        ({"kind": "room_member_count", "is": ">2"}, True),
        ({"kind": "room_member_count", "is": ">3"}, False),
        ({"kind": "room_member_count", "is": "<4"}, True),
        ({"kind": "room_member_count", "is": "<3"}, False),
        ({"kind": "room_member_count", "is": ">=3"}, True),
        ({"kind": "room_member_count", "is": ">=4"}, False),
        ({"kind": "room_member_count", "is": "<=3"}, True),
        ({"kind": "room_member_count", "is": "<=2"}, False),
        ({"kind": "room_member_count", "is": "=3"}, None),
        ({"kind": "room_member_count", "is": "9" * 16}, None),
        ({"kind": "room_member_count", "is": 3}, None),
        ({"kind": "sender_notification_permission", "key": "room"}, False),
        ({"kind": "sender_notification_permission"}, None),
        ({"kind": "org.example.unknown"}, None),
    ],
)
def test_a_condition_holds_or_not_and_what_is_none_turns_its_rule_off(
    condition: Any, holds: bool | None
) -> None:
    assert outcome(HELLO, condition) == (NOTIFY if holds else NOTHING)
    if holds is None:
        assert compile_rules({"override": [rule("own", condition)]}).rules == ()


def test_a_list_is_searched_for_just_the_value() -> None:
    told = event(list=["a", 1, None, ["b"]])
    assert [
        outcome(told, has("contains", "content.list", value)) == NOTIFY
        for value in ("a", 1, None, "b", "A", True, 0)
    ] == [True, True, True, False, False, False, False]


def test_the_users_name_is_looked_for_in_messages() -> None:
    named = {"kind": "contains_display_name"}
    assert outcome(event(body="so, alice l. said"), named) == NOTIFY
    assert outcome(event(body="so, malice l. said"), named) == NOTHING
    for name in (None, ""):
        assert outcome(event(body="so"), named, room=Room(name=name)) == NOTHING
    assert outcome(event(body=1), named) == NOTHING


def test_all_conditions_must_hold_and_none_always_do() -> None:
    right, wrong = match("type", "m.*"), match("type", "x")
    assert [outcome(HELLO, *each) for each in ([], [right], [right, right], [right, wrong], [wrong])] == [
        NOTIFY,
        NOTIFY,
        NOTIFY,
        NOTHING,
        NOTHING,
    ]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to", ("content", "m.relates_to")),
        (r"content.m\\foo", ("content", "m\\foo")),
        (r"a\x", ("a\\x",)),
        ("a\\", ("a\\",)),
        ("", ("",)),
        ("a..b", ("a", "", "b")),
    ],
)
def test_a_path_names_properties(key: str, path: tuple[str, ...]) -> None:
    assert path_of(key) == path


def test_a_property_is_what_stands_at_its_path() -> None:
    assert property_of({"a": {"b": 1}}, ("a", "b")) == 1
    assert property_of({"a": {"b": 1}}, ("a", "b", "c")) is None
    assert property_of({"a": [1]}, ("a", "0")) is None
    assert has_property({"a": None}, ("a",))
    assert not has_property({"a": 1}, ("a", "b"))


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], NOTHING),
        (["notify"], NOTIFY),
        (["dont_notify"], NOTHING),
        (["coalesce", {"set_tweak": "sound", "value": "default"}], NOTHING),
        (["notify", {"set_tweak": "highlight"}], HIGHLIGHT),
        (["notify", {"set_tweak": "highlight", "value": True}], HIGHLIGHT),
        (["notify", {"set_tweak": "highlight", "value": False}], NOTIFY),
        (["notify", {"set_tweak": "highlight", "value": "yes"}], NOTIFY),
        (["notify", {"set_tweak": "sound"}, {"other": 1}], NOTIFY),
        ([{"set_tweak": "highlight"}], NOTHING),
    ],
)
def test_actions_come_to_an_outcome(actions: Any, expected: Outcome) -> None:
    assert outcome_of(actions) == expected


def test_kinds_are_tried_in_their_order_and_rules_in_theirs() -> None:
    silent, loud = rule("x", actions=[]), rule("x", actions=["notify", {"set_tweak": "highlight"}])
    of_kind = {
        "override": silent,
        "content": silent | {"pattern": "hello"},
        "room": silent | {"rule_id": "!r:a.example"},
        "sender": silent | {"rule_id": "@bob:b.example"},
        "underride": silent,
    }
    for index, kind in enumerate(KINDS):
        ruleset: dict[str, Any] = {each: [of_kind[each]] for each in KINDS[index:]}
        assert compile_rules(ruleset).outcome(HELLO, ROOM) == NOTHING
        ruleset[kind] = [of_kind[kind] | {"actions": ["notify"]}, loud | of_kind[kind]]
        assert compile_rules(ruleset).outcome(HELLO, ROOM) == NOTIFY
        ruleset[kind][0] = ruleset[kind][0] | {"enabled": False}
        assert compile_rules(ruleset).outcome(HELLO, ROOM) == NOTHING


def test_rules_for_rooms_and_people_are_for_those_alone() -> None:
    for kind, rule_id in (("room", "!s:a.example"), ("sender", "@bob:B.example"), ("room", "!r:*")):
        assert compile_rules({kind: [rule(rule_id)]}).outcome(HELLO, ROOM) == NOTHING


def turned(rule_id: str, *, enabled: bool) -> Any:
    rules = default_rules(ALICE)
    for each in rules.values():
        for one in each:
            if one["rule_id"] == rule_id:
                one["enabled"] = enabled
    return rules


MENTIONED = {"m.mentions": {"user_ids": ["@carol:c.example", ALICE]}}
EVERYBODY = {"m.mentions": {"room": True}}
ENCRYPTED = {"algorithm": "m.mls", "ciphertext": "AAAA"}
PERMITTED, TWO = Room(permitted=("room",)), Room(members=2)


@pytest.mark.parametrize(
    ("rule_id", "told", "room", "expected", "without"),
    [
        (".m.rule.suppress_notices", event(msgtype="m.notice", body="x"), ROOM, NOTHING, NOTIFY),
        (
            ".m.rule.invite_for_me",
            event("m.room.member", ALICE, membership="invite"),
            ROOM,
            NOTIFY,
            NOTHING,
        ),
        (
            ".m.rule.member_event",
            event("m.room.member", "@x:b", membership="join", **MENTIONED),
            ROOM,
            NOTHING,
            HIGHLIGHT,
        ),
        (".m.rule.is_user_mention", event(body="you", **MENTIONED), ROOM, HIGHLIGHT, NOTIFY),
        (".m.rule.contains_display_name", event(body="Alice L.!"), ROOM, HIGHLIGHT, HIGHLIGHT),
        (".m.rule.is_room_mention", event(body="all", **EVERYBODY), PERMITTED, HIGHLIGHT, NOTIFY),
        (".m.rule.is_room_mention", event(body="all", **EVERYBODY), ROOM, NOTIFY, NOTIFY),
        (".m.rule.roomnotif", event(body="hey @room"), PERMITTED, HIGHLIGHT, NOTIFY),
        (".m.rule.roomnotif", event(body="hey @room"), ROOM, NOTIFY, NOTIFY),
        (".m.rule.tombstone", event("m.room.tombstone", ""), ROOM, HIGHLIGHT, NOTHING),
        (".m.rule.tombstone", event("m.room.tombstone"), ROOM, NOTHING, NOTHING),
        (".m.rule.reaction", event("m.reaction", **MENTIONED), ROOM, HIGHLIGHT, HIGHLIGHT),
        (
            ".m.rule.suppress_edits",
            event(body="* x", **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}),
            ROOM,
            NOTHING,
            NOTIFY,
        ),
        (".m.rule.contains_user_name", event(body="ask alice"), ROOM, HIGHLIGHT, NOTIFY),
        (".m.rule.call", event("m.call.invite"), ROOM, NOTIFY, NOTHING),
        (".m.rule.message", event(body="x"), ROOM, NOTIFY, NOTHING),
        (".m.rule.encrypted", event("m.room.encrypted", **ENCRYPTED), ROOM, NOTIFY, NOTHING),
    ],
)
def test_each_predefined_rule_does_what_it_is_for(
    rule_id: str, told: Any, room: Room, expected: Outcome, without: Outcome
) -> None:
    assert compile_rules(turned(rule_id, enabled=True)).outcome(told, room) == expected
    assert compile_rules(turned(rule_id, enabled=False)).outcome(told, room) == without


@pytest.mark.parametrize(
    ("rule_id", "other", "told"),
    [
        (".m.rule.room_one_to_one", ".m.rule.message", event(body="x")),
        (
            ".m.rule.encrypted_room_one_to_one",
            ".m.rule.encrypted",
            event("m.room.encrypted", **ENCRYPTED),
        ),
    ],
)
def test_rules_for_two_are_for_rooms_of_two(rule_id: str, other: str, told: Any) -> None:
    rules = turned(other, enabled=False)
    assert compile_rules(rules).outcome(told, TWO) == NOTIFY
    assert compile_rules(rules).outcome(told, ROOM) == NOTHING


@pytest.mark.parametrize("kind", ["m.reaction", "m.room.server_acl"])
def test_reactions_and_server_acls_notify_nobody_even_by_underride_rules(kind: str) -> None:
    rules = default_rules(ALICE)
    rules["underride"].insert(0, rule("everything"))
    told = event(kind, "" if kind == "m.room.server_acl" else None)
    assert compile_rules(rules).outcome(told, ROOM) == NOTHING
    assert compile_rules(rules).outcome(event("m.other"), ROOM) == NOTIFY


def test_the_master_rule_turns_everything_off() -> None:
    told = event(body="you", **MENTIONED)
    assert compile_rules(turned(".m.rule.master", enabled=True)).outcome(told, ROOM) == NOTHING


@pytest.mark.parametrize("body", ["Alice L.", "alice", "@room"])
def test_names_in_the_body_are_no_mentions_where_the_sender_says_whom_it_mentions(body: str) -> None:
    rules = compile_rules(default_rules(ALICE))
    assert rules.outcome(event(body=body), PERMITTED) == HIGHLIGHT
    assert rules.outcome(event(body=body, **{"m.mentions": {}}), PERMITTED) == NOTIFY


def test_a_room_without_a_name_for_the_user_has_no_mention_of_it() -> None:
    assert compile_rules(default_rules("@x:a.example")).outcome(event(body="None"), Room(name=None)) == NOTIFY


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("a.*?\\", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
CONDITIONS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(
            [
                "event_match",
                "event_property_is",
                "event_property_contains",
                "contains_display_name",
                "room_member_count",
                "sender_notification_permission",
                "x",
            ]
        )
    },
    optional={"key": VALUES, "pattern": VALUES, "value": VALUES, "is": VALUES},
)


@given(st.lists(CONDITIONS, max_size=3), st.dictionaries(st.text("ab.", max_size=2), VALUES, max_size=3))
def test_any_rule_and_any_event_have_an_outcome(conditions: list[Any], content: dict[str, Any]) -> None:
    assert outcome(event(**content), *conditions) in {NOTHING, NOTIFY}


@pytest.mark.parametrize(
    "condition",
    [
        match("content.text", "*" + "a?" * 2_000 + "b"),
        match("content.text", "*a*a*a*a*a*a*a*a*b*"),
        match("content.text", "a" * 30_000 + "?"),
        match("content.body", "a"),
        match("content.body", "?a"),
        has("contains", "content.list", 2),
        {"kind": "contains_display_name"},
    ],
)
def test_hostile_rules_on_a_hostile_event_take_no_more_work_than_is_allowed(
    condition: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five hundred of the worst rules on the longest of texts, and a rule behind them that would match."""
    spent: list[int] = []

    class Counted(Work):
        def spend(self, characters: int) -> None:
            spent.append(characters)
            super().spend(characters)

    monkeypatch.setattr(module, "Work", Counted)
    told = event(text="a" * 60_000, body="a" * 60_000, list=[1] * 30_000)
    rules = compile_rules({"override": [*[rule("bad", condition)] * 500, rule("good")]})
    assert rules.outcome(told, Room(name="a")) == NOTHING
    assert sum(spent[:-1]) <= module.MAX_WORK


def test_a_path_of_any_depth_is_followed_as_far_as_the_event_goes() -> None:
    deep = ".".join(["content"] * 20_000)
    assert outcome(HELLO, match(deep, "*")) == NOTHING
    assert property_of(HELLO, path_of(deep)) is None
