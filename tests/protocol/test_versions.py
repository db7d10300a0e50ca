from __future__ import annotations

from dataclasses import fields, replace

import pytest

from linearized.exceptions import EventFormatError
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, ROOM_VERSIONS, RoomVersion, get_version


def test_each_version_is_found_under_its_own_name() -> None:
    assert {name: version.name for name, version in ROOM_VERSIONS.items()} == {
        name: name
        for name in (
            "I.1",
            "org.matrix.i-d.ralston-mimi-linearized-matrix.02",
            "org.matrix.i-d.ralston-mimi-linearized-matrix.00",
            "org.matrix.msc3995",
            "dev.linearized.1",
        )
    }
    assert all(get_version(name) is version for name, version in ROOM_VERSIONS.items())


def test_our_own_version_is_the_default() -> None:
    assert DEFAULT_ROOM_VERSION == "dev.linearized.1"


@pytest.mark.parametrize("name", ["I.2", "", "i.1", None, 1, ["I.1"], {}])
def test_an_unknown_version_is_refused(name: object) -> None:
    with pytest.raises(EventFormatError):
        get_version(name)


def test_versions_can_be_told_apart_in_sets() -> None:
    assert len({*ROOM_VERSIONS.values()}) == len(ROOM_VERSIONS)


def test_the_testing_name_is_i_1_under_another_name() -> None:
    testing = ROOM_VERSIONS["org.matrix.i-d.ralston-mimi-linearized-matrix.02"]
    assert replace(testing, name="I.1", stable=True) == ROOM_VERSIONS["I.1"]


def test_each_version_differs_from_its_predecessor_in_what_its_text_says() -> None:
    def differences(version: str, base: str) -> set[str]:
        ours, theirs = ROOM_VERSIONS[version], ROOM_VERSIONS[base]
        return {
            field.name
            for field in fields(RoomVersion)
            if getattr(ours, field.name) != getattr(theirs, field.name)
        } - {"name"}

    early = "org.matrix.i-d.ralston-mimi-linearized-matrix.00"
    assert differences(early, "I.1") == {
        "lpdu_hashes",
        "hub_server_always",
        "hashes_unsigned",
        "stable",
    }
    assert differences("org.matrix.msc3995", early) == {
        "code_point_order",
        "limits_in_bytes",
        "kept_content",
        "kept_inner",
        "invite_join_rules",
        "knock_join_rules",
        "hub_rules",
        "federate_rule",
        "authorised_join_rules",
        "level_maps",
        "protects_equals",
        "state_level_without_event",
    }
    assert differences("dev.linearized.1", "I.1") == {
        "kept_fields",
        "kept_content",
        "invite_join_rules",
        "knock_join_rules",
        "vouched_events",
        "single_hub",
        "sealed_messages",
        "hub_transfers",
        "standalone_proposals",
        "divided_commits",
        "parent_rooms",
    }


def test_only_our_version_keeps_provenance() -> None:
    assert [name for name, version in ROOM_VERSIONS.items() if "provenance" in version.kept_fields] == [
        "dev.linearized.1"
    ]
    assert [name for name, version in ROOM_VERSIONS.items() if version.vouched_events] == ["dev.linearized.1"]


def test_two_versions_are_for_production() -> None:
    assert {name for name, version in ROOM_VERSIONS.items() if version.stable} == {"I.1", "dev.linearized.1"}
    nobody = frozenset[str]()
    made = RoomVersion(
        name="org.example.new",
        kept_fields=nobody,
        kept_content={},
        invite_join_rules=nobody,
        knock_join_rules=nobody,
    )
    assert not made.stable, "a version is not, unless it says so"


def test_state_needs_a_level_of_50_where_nobody_has_set_levels_but_in_matrix() -> None:
    # Draft, Calculating Power Levels: "If state_default is not specified, use 50." Matrix room version 10:
    # "If there is no m.room.power_levels event in the room, state_default is 0".
    levels = {name: version.state_level_without_event for name, version in ROOM_VERSIONS.items()}
    assert levels == dict.fromkeys(ROOM_VERSIONS, 50) | {"org.matrix.msc3995": 0}


def test_each_version_has_its_join_rules() -> None:
    restricted = {"restricted", "knock_restricted"}
    for name, version in ROOM_VERSIONS.items():
        more = name in {"org.matrix.msc3995", "dev.linearized.1"}
        assert version.invite_join_rules == {"invite", "knock"} | (restricted if more else set())
        assert version.knock_join_rules == {"knock"} | ({"knock_restricted"} if more else set())
        matrix = name == "org.matrix.msc3995"
        assert version.authorised_join_rules == (restricted if matrix else set())
        assert version.level_maps == (("events", "notifications") if matrix else ("events",))
