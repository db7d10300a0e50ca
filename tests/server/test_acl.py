"""Server ACLs: who is let in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol.canonical import JsonObject
from linearized.room.room import Room
from linearized.room.submissions import Accepted, ApplicationMessage, Reason, Rejected
from linearized.server.acl import SERVER_ACL, allows, matches, require_allowed
from linearized.server.cursors import LINEARIZED
from linearized.store.base import FollowerRow
from tests.room.lpdus import lpdu
from tests.room.party import PUBLIC
from tests.room.support import ALICE, BOB, NOW, member, new_room, state_event
from tests.server.test_cursors import changes, follower


@pytest.mark.parametrize(
    ("content", "server", "allowed"),
    [
        ({"allow": ["*"]}, "b.example", True),
        ({"allow": ["*"], "deny": ["b.example"]}, "b.example", False),
        ({"allow": ["*"], "deny": ["b.example"]}, "b.example:8448", False),
        ({"allow": ["*"], "deny": ["b.example"]}, "sub.b.example", True),
        ({"allow": ["*"], "deny": ["*.b.example"]}, "sub.b.example", False),
        ({"allow": ["*"], "deny": ["?.example"]}, "b.example", False),
        ({"allow": ["*"], "deny": ["B.Example"]}, "b.example", False),
        ({"allow": ["*"], "deny": ["b.example"]}, "B.EXAMPLE", False),
        ({"allow": ["a.example"]}, "b.example", False),
        ({"allow": [], "deny": []}, "b.example", False),
        ({}, "b.example", False),
        ({"allow": "*"}, "b.example", False),
        ({"allow": [5, "*"], "deny": [None, "c.example"]}, "b.example", True),
        ({"allow": ["*"], "deny": ["[bc].example"]}, "b.example", True),
        ({"allow": ["*"], "allow_ip_literals": False}, "b.example", True),
    ],
)
def test_a_server_is_denied_then_allowed_then_denied(content: JsonObject, server: str, allowed: bool) -> None:
    assert allows(content, server) is allowed


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=8))
def test_globs_match_as_their_regular_expressions_do(pattern: str, text: str) -> None:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert matches(pattern, text) is (re.fullmatch(expression, text) is not None)


def test_a_glob_made_to_be_slow_is_not() -> None:
    assert not matches("*a" * 2000 + "b", "a" * 255)


def acl(*deny: str) -> JsonObject:
    return {"allow": ["*"], "deny": list(deny)}


def joined() -> tuple[Room, dict[str, FollowerRow]]:
    """A room that b.example is in, and its follower."""
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    return room, {"b.example": follower("b.example", 3, protocol=LINEARIZED)}


def rule(room: Room, *deny: str) -> Accepted:
    return room.submit(state_event(ALICE, SERVER_ACL, acl(*deny)), now=NOW)


def test_what_a_denied_server_submits_is_refused_by_whatever_protocol() -> None:
    room, _ = joined()
    submission = lpdu("org.example.note", {})
    require_allowed(room.state, submission, "a.example")
    rule(room, "b.example")
    message = ApplicationMessage(message=b"", sending_uri="mimi://b.example/u/bob", provider="b.example")
    for denied in (submission, message):
        with pytest.raises(Rejected, match="denied by the room's server ACL") as caught:
            require_allowed(room.state, denied, "a.example")
        assert caught.value.code is Reason.FORBIDDEN


def test_a_hub_cannot_shut_itself_out() -> None:
    room, _ = joined()
    rule(room, "*")
    require_allowed(room.state, member(ALICE, "leave"), "a.example")
    ours = ApplicationMessage(message=b"", sending_uri="mimi://a.example/u/alice", provider="a.example")
    require_allowed(room.state, ours, "a.example")


def test_a_denied_server_is_sent_everything_up_to_the_rule_that_denies_it() -> None:
    room, existing = joined()
    denied = rule(room, "b.example")
    later = room.submit(state_event(ALICE, "m.room.topic", {"topic": "x"}), now=NOW)
    stop = denied.entries[0].seq
    expected = follower("b.example", 3, stop=stop, protocol=LINEARIZED)
    assert changes(room, denied, later, existing=existing) == [expected]


def test_a_server_that_is_admitted_again_goes_on_where_it_was() -> None:
    room, _ = joined()
    denied = rule(room, "b.example")
    stopped = follower("b.example", denied.entries[0].seq, stop=denied.entries[0].seq, protocol=LINEARIZED)
    room.submit(state_event(ALICE, "m.room.topic", {"topic": "x"}), now=NOW)
    admitted = rule(room)
    expected = follower("b.example", denied.entries[0].seq, protocol=LINEARIZED)
    assert changes(room, admitted, existing={"b.example": stopped}) == [expected]


def test_a_rule_about_others_moves_no_cursor() -> None:
    room, existing = joined()
    assert changes(room, rule(room, "c.example"), existing=existing) == []


def test_a_server_without_a_cursor_follows_from_the_rule_that_admits_it() -> None:
    room, _ = joined()
    admitted = rule(room)
    expected = follower("b.example", admitted.entries[0].seq - 1, protocol=LINEARIZED)
    assert changes(room, admitted) == [expected]


def test_a_server_that_joins_and_is_denied_at_once_gets_nothing() -> None:
    room = new_room(initial=[PUBLIC])
    join = room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    assert changes(room, join, rule(room, "b.example")) == []
