"""Checking a log of a room with a policy: what a hub let pass against the roles is found at its entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linearized.mimi.policy.components import PREAUTH_LIST
from linearized.mimi.policy.preauth import PreAuthData
from linearized.room.room import Room
from linearized.room_check import BrokenLog
from tests.room.party import leave
from tests.room.policy_support import USER
from tests.room.support import ALICE, BOB, NOW, Member, handshake, state_event
from tests.room.test_policy_commits import OPEN, component, found_room
from tests.test_room_check import Recorder, check, made


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def careless(monkeypatch: pytest.MonkeyPatch, *checks: str) -> pytest.MonkeyPatch:
    """A hub that leaves checks out."""
    for check_of_hub in checks:
        monkeypatch.setattr(f"linearized.room.{check_of_hub}", lambda *_, **__: None)
    return monkeypatch


def club() -> tuple[Room, Member, Member]:
    """Alice, who may do everything, and Bob, an ordinary user."""
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob, role=USER)
    return room, alice, bob


def test_a_log_of_a_room_with_a_policy_holds(recorder: Recorder, tmp_path: Path) -> None:
    room, alice, bob = club()
    room.submit(state_event(ALICE, "m.room.name", {"name": "Tea"}), now=NOW)
    room.submit(alice.remove(bob), now=NOW)
    assert check(made(recorder, tmp_path)).entries == room.head_seq


def test_an_event_that_its_senders_role_does_not_allow_is_found(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, _, _ = club()
    with monkeypatch.context() as hub:
        careless(hub, "log.check_event")
        room.submit(state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, BOB: 50}}), now=NOW)
    found = room.head_seq
    with pytest.raises(BrokenLog, match=f"entry {found} .*canChangeRoleDefinitions"):
        check(made(recorder, tmp_path))


def test_a_commit_that_its_senders_role_does_not_allow_is_found(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, _, bob = club()
    preauth = PreAuthData(preauthorized_entries=()).encode()
    with monkeypatch.context() as hub:
        careless(hub, "handshakes.check_policy_of_commit")
        room.submit(component(bob, PREAUTH_LIST, preauth), now=NOW)
    with pytest.raises(BrokenLog, match=f"entry {room.head_seq} .*does not have"):
        check(made(recorder, tmp_path))


def test_an_entry_passed_off_as_a_commits_is_found(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, alice, _ = club()
    with monkeypatch.context() as hub:
        careless(hub, "log.check_event")
        room.submit(state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, BOB: 50}}), now=NOW)
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    # The hub says of an entry of its own making that it belongs to the commit behind it.
    recorder.entries[-2] = replace(recorder.entries[-2], epoch=recorder.entries[-1].epoch)
    with pytest.raises(BrokenLog, match="canChangeRoleDefinitions"):
        check(made(recorder, tmp_path))


def test_who_proposes_to_leave_is_out_with_the_entries_behind_the_proposal(
    recorder: Recorder, tmp_path: Path
) -> None:
    room, _, bob = club()
    room.submit(leave(bob), now=NOW)
    assert [entry.type for entry in recorder.entries[-2:]] == ["m.mls.proposal", "m.room.member"]
    assert check(made(recorder, tmp_path)).entries == room.head_seq


@pytest.mark.parametrize("allowed", [True, False])
def test_an_entry_of_its_own_in_front_of_a_commits_is_judged_by_itself(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    room, alice, bob = club()
    first = room.head_seq
    levels = {"users": {ALICE: 100, BOB: 50}}
    with monkeypatch.context() as hub:
        careless(hub, "check_event")
        room.submit(state_event(ALICE, "m.room.avatar", {"url": "Tea"}), now=NOW)
        if not allowed:
            room.submit(state_event(ALICE, "m.room.power_levels", levels), now=NOW)
    room.submit(alice.remove(bob), now=NOW)
    # A copy does not say that they are no part of the append behind them, which was at the same time.
    assert [entry.type for entry in recorder.entries[first:]][-1] == "m.mls.commit"
    assert len(recorder.entries[first:]) > 2
    epoch = recorder.entries[-1].epoch
    recorder.entries[first:] = [replace(entry, epoch=epoch) for entry in recorder.entries[first:]]
    if allowed:
        assert check(made(recorder, tmp_path)).entries == room.head_seq
    else:
        with pytest.raises(BrokenLog, match="canChangeRoleDefinitions"):
            check(made(recorder, tmp_path))
