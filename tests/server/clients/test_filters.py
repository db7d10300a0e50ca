"""Keeping filters."""

from __future__ import annotations

import pytest

from linearized.server.clients import filters
from linearized.server.clients.event_filters import MAX_TIMELINE, Choice
from linearized.server.clients.filters import parse_filter
from linearized.server.http import HttpError
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Client, Server, part


async def test_a_filter_is_kept_used_and_given_back(server: Server, alice: Client) -> None:
    room_id = "!r:a.example"
    await append(
        server.store,
        room_id,
        member(room_id, 1, alice.user_id, "join"),
        *(entry(room_id, n) for n in range(2, 9)),
    )
    definition = {"room": {"timeline": {"limit": 2}}, "presence": {"types": []}}
    path = f"/user/{part(alice.user_id)}/filter"
    filter_id = (await alice.call("POST", path, definition)).ok()["filter_id"]
    assert (await alice.call("POST", path, definition)).ok()["filter_id"] == filter_id
    assert (await alice.call("GET", f"{path}/{filter_id}")).ok() == definition
    joined = (await alice.sync(filter=filter_id))["rooms"]["join"][room_id]
    assert len(joined["timeline"]["events"]) == 2


async def test_filters_are_private(alice: Client, bob: Client) -> None:
    path = f"/user/{part(alice.user_id)}/filter"
    filter_id = (await alice.call("POST", path, {})).ok()["filter_id"]
    (await bob.call("POST", path, {})).refused(403, "M_FORBIDDEN")
    (await bob.call("GET", f"{path}/{filter_id}")).refused(403, "M_FORBIDDEN")
    own = f"/user/{part(bob.user_id)}/filter"
    (await bob.call("GET", f"{own}/{filter_id}")).refused(404, "M_NOT_FOUND")
    (await bob.call("GET", "/sync", query={"filter": filter_id})).refused(400, "M_INVALID_PARAM")


async def test_a_filter_that_is_too_large_or_malformed_is_not_kept(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/user/{part(alice.user_id)}/filter"
    (await alice.call("POST", path, {"room": []})).refused(400, "M_BAD_JSON")
    monkeypatch.setattr(filters, "MAX_FILTER_BYTES", 10)
    (await alice.call("POST", path, {"room": {}})).refused(413, "M_TOO_LARGE")


def test_the_timeline_is_bounded_whatever_the_filter_says() -> None:
    wanted = parse_filter({"room": {"timeline": {"limit": 10**9}}})
    assert wanted.timeline.limit == MAX_TIMELINE


@pytest.mark.parametrize(
    ("choice", "value", "allowed"),
    [
        (Choice(), "a", True),
        (Choice(only=("a",)), "a", True),
        (Choice(only=("a",)), "b", False),
        (Choice(only=()), "a", False),
        (Choice(never=("a",)), "a", False),
        (Choice(only=("a",), never=("a",)), "a", False),
        (Choice(only=("m.room.*",)), "m.room.name", True),
        (Choice(only=("m.room.*",)), "m.call", False),
        (Choice(only=("m.?", "m.[ab]")), "m.a", False),
        (Choice(only=("m.?",)), "m.?", True),
        (Choice(only=("m.[ab]",)), "m.[ab]", True),
        (Choice(only=("a*b*c",)), "a.b.b.c", True),
        (Choice(only=("a*b*c",)), "a.c", False),
        (Choice(only=("ab*ba",)), "aba", False),
        (Choice(only=("*",)), "", True),
        (Choice(never=("*",)), "m.a", False),
    ],
)
def test_a_choice_allows_what_is_named_and_not_excluded(choice: Choice, value: str, allowed: bool) -> None:
    assert choice.allows(value) is allowed


@pytest.mark.parametrize("types", [["a"] * 501, [f"{number}*" for number in range(21)]])
def test_a_filter_has_a_largest_number_of_names_and_patterns(types: list[str]) -> None:
    with pytest.raises(HttpError, match="more than"):
        parse_filter({"room": {"timeline": {"types": types}}})
    parse_filter({"room": {"timeline": {"types": types[:-1]}}})
