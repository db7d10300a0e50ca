from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import AuthorizationError
from linearized.protocol.authorization import authorize, select_auth_events
from linearized.protocol.canonical import canonical_json
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import StateMap
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion
from tests.protocol.support import ALICE, BOB, MATRIX, ROOM, json_objects, json_values, quick

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "linearized" / "protocol"
CASES: list[dict[str, Any]] = [
    case | {"file": path.stem}
    for path in sorted((HERE / "fixtures" / "authorization").glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]


def make(event_id: str, spec: dict[str, Any]) -> Event:
    """An event for the rules: its fields count, its signatures and hashes do not."""
    pdu: dict[str, Any] = {
        "room_id": ROOM,
        "type": "m.room.message",
        "sender": ALICE,
        "content": {},
        "origin_server_ts": 1,
        "auth_events": [],
        "prev_events": ["$before"],
    } | spec
    return Event(
        event_id=event_id,
        room_id=pdu["room_id"],
        type=pdu["type"],
        state_key=pdu.get("state_key"),
        sender=pdu["sender"],
        origin_server_ts=pdu["origin_server_ts"],
        content=pdu["content"],
        hub_server=pdu.get("hub_server"),
        auth_events=tuple(pdu["auth_events"]),
        prev_events=tuple(pdu["prev_events"]),
        provenance=pdu.get("provenance"),
        pdu=pdu,
        raw=canonical_json(pdu),
    )


def make_state(spec: dict[str, Any] | None, version: str) -> StateMap:
    if spec is None:
        return {}
    create: dict[str, Any] = {"room_version": version, **spec.get("create", {})}
    if spec.get("encrypted"):
        create["encryption"] = {"algorithm": "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"}
    events = {"$create": {"type": "m.room.create", "state_key": "", "content": create}}
    if "power_levels" in spec:
        events["$power_levels"] = {
            "type": "m.room.power_levels",
            "state_key": "",
            "content": spec["power_levels"],
        }
    if "join_rule" in spec:
        events["$join_rules"] = {
            "type": "m.room.join_rules",
            "state_key": "",
            "content": {"join_rule": spec["join_rule"]},
        }
    if "hub" in spec:
        events["$hub"] = {"type": "m.room.hub", "state_key": "", "sender": spec["hub"]}
    for user_id, membership in spec.get("members", {ALICE: "join"}).items():
        events[f"${user_id}"] = {
            "type": "m.room.member",
            "state_key": user_id,
            "content": {"membership": membership},
        }
    made = [make(event_id, event) for event_id, event in events.items()]
    return {(event.type, event.state_key or ""): event for event in made}


def check(case: dict[str, Any]) -> None:
    version = ROOM_VERSIONS[case.get("version", "I.1")]
    state = make_state(case.get("state", {}), version.name)
    event = make("$event", case.get("event", {}))
    if "auth_events" not in case.get("event", {}):
        selected = select_auth_events(
            type=event.type,
            state_key=event.state_key,
            sender=event.sender,
            content=event.content,
            state=state,
            version=version,
        )
        event = make("$event", event.pdu | {"auth_events": selected})
    known = {event_id: make(event_id, spec) for event_id, spec in case.get("known", {}).items()}
    authorize(
        event,
        state,
        version=version,
        first_commit_seen=case.get("first_commit_seen", False),
        auth_events=known if "known" in case else None,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}-{case['rule']}-{case['why']}")
def test_the_rule_lets_the_event_through_or_not(case: dict[str, Any]) -> None:
    if case["allow"]:
        check(case)
        return
    with pytest.raises(AuthorizationError) as caught:
        check(case)
    assert caught.value.rule == case["rule"], caught.value


def in_version(case: dict[str, Any], version: str) -> dict[str, Any]:
    """A case of I.1 in a room of another version; there, too, participants' events come through the hub."""
    event = dict(case.get("event", {}))
    content = event.get("content", {})
    if content.get("room_version") == "I.1":
        event["content"] = content | {"room_version": version}
    hub = user_domain((case.get("state") or {}).get("hub", ALICE))
    if ROOM_VERSIONS[version].single_hub and user_domain(event.get("sender", ALICE)) != hub:
        event.setdefault("hub_server", hub)
    return case | {"version": version, "event": event}


OTHERS = sorted(ROOM_VERSIONS.keys() - {"I.1"})


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if "version" not in case],
    ids=lambda case: f"{case['file']}-{case['why']}",
)
def test_the_other_versions_decide_alike_but_for_what_the_case_names(case: dict[str, Any]) -> None:
    refused: dict[str, str | None] = dict.fromkeys(OTHERS)
    for version in OTHERS:
        try:
            check(in_version(case, version))
        except AuthorizationError as error:
            refused[version] = error.rule
    expected = dict.fromkeys(OTHERS, None if case["allow"] else case["rule"]) | case.get("elsewhere", {})
    assert refused == expected


def test_every_rule_the_code_refuses_with_has_a_case_for_and_one_against() -> None:
    rules = {
        rule
        for path in SOURCES.glob("*.py")
        for rule in re.findall(
            r'(?:AuthorizationError\(|_check_joined\(event, state, )"([^"]+)"',
            path.read_text(encoding="utf-8"),
        )
    }
    assert len(rules) > 30
    assert rules == {case["rule"] for case in CASES if case["allow"]}
    assert rules == {case["rule"] for case in CASES if not case["allow"]}


V1 = ROOM_VERSIONS["I.1"]
RULES = json.loads((HERE / "fixtures" / "rules.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", RULES, ids=lambda entry: entry["rule"])
def test_every_branch_of_the_rules_has_its_cases(entry: dict[str, Any]) -> None:
    rule = entry["rule"]
    if entry["decides"] in {"allow", "both"}:
        assert [case for case in CASES if case["allow"] and rule in {case.get("branch"), case["rule"]}]
    if entry["decides"] in {"reject", "both"}:
        assert [case for case in CASES if not case["allow"] and case["rule"] == rule]


def test_the_table_of_rules_names_each_rule_once_and_the_cases_no_other() -> None:
    listed = [entry["rule"] for entry in RULES]
    assert len(listed) == len(set(listed))
    named = {case["rule"] for case in CASES} | {case["branch"] for case in CASES if "branch" in case}
    assert named == set(listed)


def test_an_allowing_branch_is_only_named_by_a_case_that_is_allowed() -> None:
    assert all(case["allow"] for case in CASES if "branch" in case)
    deciding = {entry["rule"] for entry in RULES if entry["decides"] == "allow"}
    assert deciding == {case["branch"] for case in CASES if "branch" in case}


STATE = make_state(
    {"power_levels": {}, "join_rule": "public", "members": {ALICE: "join", "@bob:b.example": "invite"}}, "I.1"
)


@pytest.mark.parametrize(
    ("kind", "state_key", "sender", "content", "selected"),
    [
        ("m.room.create", "", ALICE, {}, []),
        ("m.room.message", None, ALICE, {}, ["$create", "$power_levels", f"${ALICE}"]),
        ("m.room.name", "", "@new:c.example", {}, ["$create", "$power_levels"]),
        ("m.room.member", ALICE, ALICE, {"membership": "leave"}, ["$create", "$power_levels", f"${ALICE}"]),
        (
            "m.room.member",
            ALICE,
            ALICE,
            {"membership": "join"},
            ["$create", "$power_levels", f"${ALICE}", "$join_rules"],
        ),
        (
            "m.room.member",
            "@bob:b.example",
            ALICE,
            {"membership": "invite"},
            ["$create", "$power_levels", f"${ALICE}", "$@bob:b.example", "$join_rules"],
        ),
        (
            "m.room.member",
            "@bob:b.example",
            ALICE,
            {"membership": "ban"},
            ["$create", "$power_levels", f"${ALICE}", "$@bob:b.example"],
        ),
        ("m.room.member", None, ALICE, {"membership": ["join"]}, ["$create", "$power_levels", f"${ALICE}"]),
        ("m.room.member", None, ALICE, {"membership": {}}, ["$create", "$power_levels", f"${ALICE}"]),
    ],
)
def test_auth_events_are_selected_as_the_draft_says(
    kind: str, state_key: str | None, sender: str, content: dict[str, Any], selected: list[str]
) -> None:
    assert (
        select_auth_events(
            type=kind, state_key=state_key, sender=sender, content=content, state=STATE, version=V1
        )
        == selected
    )


def test_a_room_without_power_levels_or_join_rules_selects_neither() -> None:
    assert select_auth_events(
        type="m.room.member",
        state_key=ALICE,
        sender=ALICE,
        content={"membership": "join"},
        state=make_state({"members": {}}, "I.1"),
        version=V1,
    ) == ["$create"]


KINDS = [
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.message",
    "m.mls.commit",
]
LEVELS = st.fixed_dictionaries(
    {},
    optional={
        field: json_values
        | st.integers(-10, 110)
        | st.dictionaries(st.sampled_from([ALICE, BOB, "x"]), json_values)
        for field in ("users", "events", "users_default", "state_default", "ban", "kick", "invite")
    },
)
CONTENTS = (
    json_objects
    | st.fixed_dictionaries(
        {"membership": json_values | st.sampled_from(["join", "invite", "leave", "ban", "knock"])}
    )
    | LEVELS
)


@quick
@given(
    event=st.fixed_dictionaries(
        {"type": st.sampled_from(KINDS), "content": CONTENTS, "sender": st.sampled_from([ALICE, BOB])},
        optional={
            "state_key": st.sampled_from(["", ALICE, BOB, "@", "x"]),
            "prev_events": st.just(["$create"]),
            "provenance": st.just(MATRIX | {"imported": True}),
        },
    ),
    state=st.fixed_dictionaries(
        {"members": st.dictionaries(st.sampled_from([ALICE, BOB]), json_values | st.just("join"))},
        optional={
            "power_levels": json_objects | LEVELS,
            "join_rule": json_values,
            "encrypted": st.booleans(),
        },
    ),
    version=st.sampled_from(list(ROOM_VERSIONS.values())),
    first_commit_seen=st.booleans(),
)
def test_any_event_in_any_state_is_allowed_or_refused_with_a_rule(
    event: dict[str, Any], state: dict[str, Any], version: RoomVersion, first_commit_seen: bool
) -> None:
    case = {"version": version.name, "state": state, "event": event, "first_commit_seen": first_commit_seen}
    with suppress(AuthorizationError):
        check(case)
