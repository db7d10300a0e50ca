"""Where the demonstration puts things and finds programs, and how it judges what arrived."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from linearized.demo.checks import Checks
from linearized.demo.log import verify_pdus
from linearized.demo.step_bridge import compare_import
from linearized.demo.step_restart import compare
from linearized.demo.world import World, empty_directory, program
from linearized.exceptions import ConfigError
from tests.room.support import ALICE, NOW, A, new_room, state_event

KEYS = {A.key.key_id: A.key.verify_key}


def bare_world() -> tuple[World, Checks]:
    checks = Checks()
    return cast("World", SimpleNamespace(checks=checks, matrix_order=["$create", "$1", "$2"])), checks


def test_an_earlier_demonstration_is_emptied(tmp_path: Path) -> None:
    empty_directory(tmp_path / "demo")
    (tmp_path / "demo" / "a" / "data").mkdir(parents=True)
    (tmp_path / "demo" / "a" / "data" / "db").write_text("old")
    empty_directory(tmp_path / "demo")
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [".linearized-demo", "logs"]


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not the demonstration's"):
        empty_directory(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_program_is_taken_from_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEARIZED_NIO_PYTHON", "/opt/nio/bin/python")
    assert program("LINEARIZED_NIO_PYTHON", "nio") == Path("/opt/nio/bin/python")


def test_a_program_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINEARIZED_NIO_PYTHON", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = tmp_path / "linearized" / "nio-0.26.0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert program("LINEARIZED_NIO_PYTHON", "nio") == python


def test_a_missing_program_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINEARIZED_NIO_PYTHON", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="run `make nio`"):
        program("LINEARIZED_NIO_PYTHON", "nio")


@pytest.mark.parametrize(
    ("arrived", "verdict"),
    [
        (["a", "b", "c"], (True, "3 sent, 0 lost, 0 repeated, in order")),
        (["a", "c"], (False, "3 sent, 1 lost, 0 repeated, in order")),
        (["a", "b", "b", "c"], (False, "3 sent, 0 lost, 1 repeated, in order")),
        (["b", "a", "c"], (False, "3 sent, 0 lost, 0 repeated, out of order")),
    ],
)
def test_lost_repeated_and_misplaced_messages_are_told_apart(
    arrived: list[str], verdict: tuple[bool, str]
) -> None:
    world, checks = bare_world()
    compare(world, "messages", arrived, ["a", "b", "c"])
    assert (checks.lines[0].held, checks.lines[0].measured) == verdict


def event(number: int, **changes: Any) -> dict[str, Any]:
    made = {"event_id": f"${number}", "type": "m.room.message", "sender": "@a:x", "origin_server_ts": number}
    return made | changes


def entry(number: int, **changes: Any) -> dict[str, Any]:
    made = event(number)
    provenance = {"event_id": made.pop("event_id"), "imported": True}
    return made | {"provenance": provenance} | changes


@pytest.mark.parametrize(
    ("imported", "failing"),
    [
        ([entry(1), entry(2)], set()),
        ([entry(1)], {"events imported", "in the homeserver's order"}),
        ([entry(2), entry(1)], {"in the homeserver's order", "timestamps that differ"}),
        ([entry(1), entry(2, sender="@b:x")], {"senders that differ"}),
        ([entry(1), entry(2, origin_server_ts=9)], {"timestamps that differ"}),
        ([entry(1), entry(2, type="m.reaction")], {"types that differ"}),
    ],
)
def test_an_import_that_differs_from_the_room_fails(
    imported: list[dict[str, Any]], failing: set[str]
) -> None:
    world, checks = bare_world()
    create = event(0, event_id="$create", type="m.room.create")
    compare_import(world, imported, [create, event(1), event(2), event(3)])
    assert {line.name for line in checks.lines if not line.held} == failing


def log_of_three() -> list[dict[str, Any]]:
    room = new_room()
    named = room.submit(state_event(ALICE, "m.room.name", {"name": "Clubhouse"}), now=NOW)
    events = [*room.state.values()]
    create = next(e for e in events if e.type == "m.room.create")
    joined = next(e for e in events if e.type == "m.room.member")
    return [create.pdu, joined.pdu, named.entries[0].event.pdu]


def lookup(server: str, key_id: str) -> bytes | None:
    return KEYS.get(key_id) if server == "a.example" else None


def test_a_good_log_verifies() -> None:
    log = verify_pdus(log_of_three(), lookup)
    assert (len(log.events), log.broken) == (3, None)


def test_a_changed_event_is_named() -> None:
    pdus = log_of_three()
    pdus[2] = {**pdus[2], "content": {"name": "Forged"}}
    log = verify_pdus(pdus, lookup)
    assert len(log.events) == 2
    assert log.broken is not None
    assert log.broken.startswith("entry 3: ")


def test_a_missing_event_is_named() -> None:
    pdus = log_of_three()
    del pdus[1]
    assert verify_pdus(pdus, lookup).broken == "entry 2: prev_events is not the entry before"


def test_events_signed_by_an_unknown_key_are_named() -> None:
    log = verify_pdus(log_of_three(), lambda server, key_id: None)
    assert (log.events, log.broken is None) == ([], False)
