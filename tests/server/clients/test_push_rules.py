"""Push rules: the predefined ones, the user's own, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import push_rules as module
from linearized.server.clients.push_rules import MAX_ACTIONS, MAX_CONDITIONS, MAX_PATTERN, MAX_RULE_ID
from tests.server.clients.support import Client, part

NOTIFY = {"actions": ["notify"]}
MANY = [{"kind": "x"}] * (MAX_CONDITIONS + 1)


def path(kind: str, rule_id: str, rest: str = "") -> str:
    return f"/pushrules/global/{kind}/{part(rule_id)}{rest}"


async def rules(client: Client) -> Any:
    return (await client.call("GET", "/pushrules/")).ok()["global"]


async def ids(client: Client, kind: str) -> list[str]:
    return [rule["rule_id"] for rule in (await rules(client))[kind]]


async def put(client: Client, kind: str, rule_id: str, body: Any = NOTIFY, **query: str) -> None:
    assert (await client.call("PUT", path(kind, rule_id), body, query)).ok() == {}


async def test_whoever_has_changed_nothing_has_the_predefined_rules(alice: Client) -> None:
    found = await rules(alice)
    assert (await alice.call("GET", "/pushrules")).ok() == {"global": found}
    assert (await alice.call("GET", "/pushrules/global/")).ok() == found
    assert (await ids(alice, "override"))[0] == ".m.rule.master"
    assert found["content"][0]["pattern"] == "alice"
    assert all(rule["default"] for kind in found.values() for rule in kind)
    invitation = (await alice.call("GET", path("override", ".m.rule.invite_for_me"))).ok()
    assert invitation["conditions"][-1]["pattern"] == alice.user_id


async def test_rules_of_ones_own_stand_before_the_predefined_ones(alice: Client) -> None:
    await put(alice, "room", "!r:a.example")
    for rule_id in ("one", "two"):
        await put(alice, "override", rule_id, {**NOTIFY, "conditions": [{"kind": "org.example"}]})
    await put(alice, "content", "word", {**NOTIFY, "pattern": "lunch"})
    assert await ids(alice, "room") == ["!r:a.example"]
    assert (await ids(alice, "override"))[:3] == [".m.rule.master", "two", "one"]
    assert await ids(alice, "content") == ["word", ".m.rule.contains_user_name"]
    await put(alice, "override", "three", {**NOTIFY, "conditions": []}, before="one")
    await put(alice, "override", "four", {**NOTIFY, "conditions": []}, after="one")
    assert (await ids(alice, "override"))[1:5] == ["two", "three", "one", "four"]
    answer = (await alice.call("GET", path("content", "word"))).ok()
    assert answer == {
        "rule_id": "word",
        "default": False,
        "enabled": True,
        "actions": ["notify"],
        "pattern": "lunch",
    }


async def test_a_rule_is_replaced_turned_off_and_deleted(alice: Client) -> None:
    await put(alice, "room", "!r:a.example")
    enabled = path("room", "!r:a.example", "/enabled")
    assert (await alice.call("PUT", enabled, {"enabled": False})).ok() == {}
    await put(alice, "room", "!r:a.example", {"actions": []})
    assert (await alice.call("GET", enabled)).ok() == {"enabled": False}
    assert (await alice.call("GET", path("room", "!r:a.example", "/actions"))).ok() == {"actions": []}
    assert (await alice.call("DELETE", path("room", "!r:a.example"))).ok() == {}
    (await alice.call("GET", path("room", "!r:a.example"))).refused(404, "M_NOT_FOUND")
    (await alice.call("DELETE", path("room", "!r:a.example"))).refused(404, "M_NOT_FOUND")


async def test_a_predefined_rule_can_be_changed_not_deleted(alice: Client) -> None:
    actions = path("underride", ".m.rule.message", "/actions")
    (await alice.call("PUT", actions, {"actions": ["notify", {"set_tweak": "sound"}]})).ok()
    assert len((await alice.call("GET", actions)).ok()["actions"]) == 2
    (await alice.call("DELETE", path("underride", ".m.rule.message"))).refused(400, "M_INVALID_PARAM")
    (await alice.call("PUT", path("underride", ".m.rule.message"), NOTIFY)).refused(400, "M_INVALID_PARAM")


async def test_a_change_is_told_to_the_users_clients_alone(alice: Client, bob: Client) -> None:
    mine, his = (await alice.sync())["next_batch"], (await bob.sync())["next_batch"]
    await put(alice, "room", "!r:a.example")
    (event,) = (await alice.sync(mine))["account_data"]["events"]
    assert (event["type"], event["content"]["global"]) == ("m.push_rules", await rules(alice))
    assert (await bob.sync(his))["account_data"]["events"] == []
    assert await ids(bob, "room") == []


@pytest.mark.parametrize(
    ("kind", "rule_id", "body", "errcode"),
    [
        ("other", "x", NOTIFY, "M_INVALID_PARAM"),
        ("room", ".x", NOTIFY, "M_INVALID_PARAM"),
        ("room", "a/b", NOTIFY, "M_INVALID_PARAM"),
        ("room", "x" * (MAX_RULE_ID + 1), NOTIFY, "M_INVALID_PARAM"),
        ("room", "x", {}, "M_BAD_JSON"),
        ("room", "x", {"actions": [1]}, "M_BAD_JSON"),
        ("room", "x", {"actions": ["notify"] * (MAX_ACTIONS + 1)}, "M_INVALID_PARAM"),
        ("content", "x", NOTIFY, "M_BAD_JSON"),
        ("content", "x", {**NOTIFY, "pattern": "x" * (MAX_PATTERN + 1)}, "M_INVALID_PARAM"),
        ("override", "x", {**NOTIFY, "conditions": [{}]}, "M_BAD_JSON"),
        (
            "override",
            "x",
            {**NOTIFY, "conditions": MANY},
            "M_INVALID_PARAM",
        ),
    ],
)
async def test_what_is_no_rule_is_refused(
    alice: Client, kind: str, rule_id: str, body: Any, errcode: str
) -> None:
    before = await rules(alice)
    (await alice.call("PUT", path(kind, rule_id), body)).refused(400, errcode)
    assert await rules(alice) == before


async def test_what_is_no_part_or_place_is_refused(alice: Client) -> None:
    await put(alice, "room", "!r:a.example")
    rule = path("room", "!r:a.example")
    (await alice.call("PUT", f"{rule}/enabled", {})).refused(400, "M_BAD_JSON")
    (await alice.call("PUT", f"{rule}/enabled", {"enabled": 1})).refused(400, "M_BAD_JSON")
    (await alice.call("PUT", f"{rule}/actions", {})).refused(400, "M_BAD_JSON")
    (await alice.call("PUT", f"{rule}/rule_id", {})).refused(404, "M_UNRECOGNIZED")
    (await alice.call("PUT", path("room", "none", "/enabled"), {"enabled": True})).refused(404, "M_NOT_FOUND")
    for name in ("before", "after"):
        answer = await alice.call("PUT", path("room", "x"), NOTIFY, {name: "none"})
        answer.refused(404, "M_NOT_FOUND")


async def test_there_are_only_so_many_rules(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(alice, "room", "one")
    count = sum(map(len, (await rules(alice)).values()))
    monkeypatch.setattr(module, "MAX_RULES", count)
    (await alice.call("PUT", path("room", "two"), NOTIFY)).refused(400, "M_LIMIT_EXCEEDED")
    await put(alice, "room", "one", {"actions": []})
