from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linearized.client import Session
from linearized.client.transport import JsonObject
from linearized.client.verify import (
    LogBroken,
    LogReport,
    LogVerifier,
    check_included,
    check_signed,
    fetch_and_verify,
    server_keys,
    verify_log,
)
from linearized.exceptions import ProofError, SignatureError
from linearized.protocol.events import Event
from linearized.room.draft import Draft
from linearized.room.participation import StateChange
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Submission
from tests.bridges.support import open_world
from tests.bridges.test_import import history
from tests.client.support import drain, message
from tests.client.test_real_server import new_room, open_club
from tests.room.party import Party
from tests.room.support import ALICE, BOB, NOW, A, Member, grouped_room, handshake, member

Keys = dict[tuple[str, str], bytes]


@asynccontextmanager
async def room_with_a_past(tmp_path: Path) -> AsyncIterator[tuple[Session, str, Keys, list[dict[str, Any]]]]:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        await bob.send(room_id, message("one"))
        await alice.groups.remove_users(room_id, [bob.device.owner.user_id])
        await alice.send(room_id, message("two"))
        keys = server_keys(await alice.api.server_keys())
        page = await alice.api.log(room_id, after=0, limit=200)
        yield alice, room_id, keys, page.pdus


async def test_a_whole_log_is_checked_to_its_head(tmp_path: Path) -> None:
    async with room_with_a_past(tmp_path) as (alice, room_id, keys, pdus):
        report = await fetch_and_verify(alice.api, room_id, lambda *name: keys.get(name))
        assert report.entries == len(pdus)
        assert (report.commits, report.epoch, report.hub) == (3, 3, "a.example")
        assert report.types["m.room.encrypted"] == 2


async def test_what_was_read_is_held_against_what_the_hub_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room_with_a_past(tmp_path) as (alice, room_id, keys, pdus):

        def lookup(*name: str) -> bytes | None:
            return keys.get((name[0], name[1]))

        report = await fetch_and_verify(alice.api, room_id, lookup)
        signed = await check_signed(alice.api, report, lookup)
        assert signed.size == len(pdus)
        # A log that was cut short is signed too, as a beginning of the whole one.
        beginning = verify_log(pdus[:4], lookup)
        assert (await check_signed(alice.api, beginning, lookup)).size == 4
        assert beginning.head is not None
        seq, newest = await check_included(alice.api, room_id, beginning.head, hub="a.example", keys=lookup)
        assert (seq, newest) == (4, signed)
        with pytest.raises(SignatureError):
            await check_signed(alice.api, report, lambda *_: None)
        beginning.entries += 1
        with pytest.raises(LogBroken):
            await check_signed(alice.api, beginning, lookup)
        real = alice.api.inclusion

        async def another(room: str, event_id: str, *, size: int) -> Any:
            return replace(await real(room, event_id, size=size), seq=5)

        monkeypatch.setattr(alice.api, "inclusion", another)
        with pytest.raises(ProofError):
            await check_included(alice.api, room_id, beginning.head, hub="a.example", keys=lookup)


async def test_every_kind_of_tampering_is_found_where_it_happened(tmp_path: Path) -> None:
    async with room_with_a_past(tmp_path) as (_, _, keys, pdus):

        def broken(change: Any) -> LogBroken:
            tampered = copy.deepcopy(pdus)
            change(tampered)
            with pytest.raises(LogBroken) as caught:
                verify_log(tampered, lambda *name: keys.get(name))
            return caught.value

        encrypted = next(i for i, pdu in enumerate(pdus) if pdu["type"] == "m.room.encrypted")
        assert broken(lambda log: log.pop(encrypted)).seq == encrypted + 1
        assert broken(lambda log: log.pop(0)).seq == 1
        assert broken(lambda log: log[3]["content"].update(x=1)).seq == 4
        assert broken(lambda log: log[3].update(origin_server_ts=1)).seq == 4
        assert broken(lambda log: log.insert(4, log[3])).seq == 5
        swapped = broken(lambda log: log.__setitem__(slice(3, 5), log[3:5][::-1]))
        assert swapped.seq == 4


async def test_keys_that_nobody_vouches_for_verify_nothing(tmp_path: Path) -> None:
    async with room_with_a_past(tmp_path) as (alice, _, _, pdus):
        with pytest.raises(LogBroken, match="entry 1"):
            verify_log(pdus, lambda *_: None)
        answer = await alice.api.server_keys()
        answer["server_name"] = "b.example"
        with pytest.raises(SignatureError):
            server_keys(answer)


async def test_an_imported_room_can_be_checked_like_any_other(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room_id = await world.import_room(history(world.homeserver, 60))
        api = world.bridge.puppets.bot.api
        keys = server_keys(await api.server_keys())
        report = await fetch_and_verify(api, room_id, lambda *name: keys.get(name))
        assert report.imported >= 60
        assert report.commits == 2


async def test_a_log_with_proposals_is_checked_and_one_without_those_it_needs_is_not(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        await bob.leave(room_id)
        await alice.catch_up()
        await alice.send(room_id, message("alone"))
        keys = server_keys(await alice.api.server_keys())
        pdus = (await alice.api.log(room_id, after=0, limit=200)).pdus
        report = verify_log(pdus, lambda *name: keys.get(name))
        assert (report.commits, report.types["m.mls.proposal"]) == (3, 1)
        verifier = Forgetful(lambda *name: keys.get(name))
        kinds = [pdu["type"] for pdu in pdus]
        commit = kinds.index("m.mls.commit", kinds.index("m.mls.proposal"))
        for pdu in pdus[:commit]:
            verifier.take(pdu)
        with pytest.raises(LogBroken):
            verifier.take(pdus[commit])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[JsonObject]:
    """What a hub tells of the rooms that it orders."""
    pdus: list[JsonObject] = []
    original = Room.submit

    def submit(room: Room, submission: Submission, *, now: int) -> Accepted:
        accepted = original(room, submission, now=now)
        pdus.extend(entry.event.pdu for entry in accepted.entries)
        return accepted

    monkeypatch.setattr(Room, "submit", submit)
    return pdus


def read(told: list[JsonObject]) -> LogReport:
    keys = {("a.example", A.key.key_id): A.key.verify_key}
    return verify_log(told, lambda *name: keys.get(name))


def test_what_no_handshake_says_is_found_though_the_hub_vouches_for_it(
    told: list[JsonObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = Member(BOB)
    party = Party(bob, role=2)
    assert read(told).commits == 2
    levels = {"users": {ALICE: 100, BOB: 100}}
    lie = StateChange(sender=BOB, type="m.room.power_levels", state_key="", content=levels)
    monkeypatch.setattr("linearized.room.handshakes.join_rule_changes", lambda *_, **__: [lie])
    party.submit(handshake(bob, bob.joined().commit()), by=bob)
    with pytest.raises(LogBroken, match="which the commit it names does not say") as raised:
        read(told)
    assert raised.value.seq == len(told)


def test_a_commit_of_another_user_than_its_sender_is_found(
    told: list[JsonObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, _, _ = grouped_room(bob := Member(BOB), initial=[member("@anna:a.example", "invite", sender=ALICE)])
    room.submit(member("@anna:a.example", "join"), now=NOW)
    original = Draft.write

    def write(draft: Draft, **fields: Any) -> Event:
        if fields["event_type"] == "m.mls.commit":
            fields |= {"sender": "@anna:a.example", "provenance": None}
        return original(draft, **fields)

    monkeypatch.setattr(Draft, "write", write)
    room.submit(handshake(bob, bob.joined().commit()), now=NOW)
    with pytest.raises(LogBroken, match=f"signed by {BOB}"):
        read(told)


async def test_a_log_that_ends_before_the_handshake_it_names_is_broken(told: list[JsonObject]) -> None:
    Party(Member(BOB))
    verifier = LogVerifier(lambda *_: A.key.verify_key)
    for pdu in told[:-1]:
        verifier.take(pdu)
    assert told[-2]["type"] == "m.room.member"
    with pytest.raises(LogBroken, match="is not in the log"):
        verifier.end()


class Forgetful(LogVerifier):
    """One that keeps no proposals, so that a commit by reference cannot be followed."""

    def _propose(self, event: Event) -> None:
        del event
