"""A hub that vouches for memberships and levels which no handshake says: its participants refuse them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from linearized.protocol.state import membership
from linearized.room.participation import StateChange
from linearized.room.vouching import FalselyVouched
from linearized.server.auditing import AGAINST_HANDSHAKES
from tests.interop.hostile_vouching import CAROL, Told, told_room
from tests.room.recording import lying, member_change
from tests.room.support import ALICE, Member, handshake

NAME = "A" * 43
JOIN = (CAROL, "m.room.member", CAROL, {"membership": "join"}, NAME)
TOPIC = (ALICE, "m.room.topic", "", {"topic": "Tea"}, None)


def found(told: Told, *event_ids: str) -> None:
    """The participant keeps what shows the lie, signed by the hub, and has none of it in its copy."""
    (finding,) = told.pair.b.node.store.findings(told.pair.room_id)
    document = orjson.loads(finding.document)
    assert (finding.reason, finding.proven) == (AGAINST_HANDSHAKES, False)
    assert document["event_ids"] == list(event_ids)
    assert all("a.example" in pdu["signatures"] for pdu in document["pdus"])
    assert not set(event_ids) & set(told.kept())


async def test_what_follows_from_a_commit_comes_with_it_or_not_at_all(tmp_path: Path) -> None:
    async with told_room(tmp_path) as told:
        before = told.kept()
        *entries, commit = await told.submit(told.alice.add(Member(CAROL)))
        assert [pdu["type"] for pdu in entries] == ["m.room.member", "m.room.member"]
        assert await told.tell(entries[0]) == [None]
        assert await told.tell(entries[1]) == [None]
        state = told.pair.b.node.rooms.state(told.pair.room_id)
        assert membership(state, CAROL) == "invite", "nobody is joined before the commit that says so"
        assert len(told.kept()) == len(before) + 1
        assert await told.tell(entries[1], commit) == [None, None]
        assert told.kept()[-3:] == [entry.event_id for entry in told.pair.log(told.pair.a)][-3:]
        assert membership(told.pair.b.node.rooms.state(told.pair.room_id), CAROL) == "join"


async def test_what_was_held_back_before_a_restart_is_fetched_again(tmp_path: Path) -> None:
    async with told_room(tmp_path) as told:
        *entries, commit = await told.submit(told.alice.add(Member(CAROL)))
        assert await told.tell(*entries) == [None, None]
        told.pair.b.node.rooms.participating._held.keep(told.pair.room_id, [])
        assert await told.tell(commit) == [None]
        told.pair.agree()


async def test_a_membership_that_names_a_commit_which_never_comes_is_refused(tmp_path: Path) -> None:
    async with told_room(tmp_path) as told:
        joins, topic = told.forge(JOIN, TOPIC)
        assert await told.tell(joins.pdu) == [None]
        (refusal,) = await told.tell(topic.pdu)
        assert isinstance(refusal, FalselyVouched)
        assert refusal.event_id == joins.event_id
        found(told, joins.event_id, topic.event_id)
        # Nor is it taken in any other order, or together with what is true.
        assert isinstance((await told.tell(joins.pdu, topic.pdu))[1], FalselyVouched)
        found(told, joins.event_id, topic.event_id)


@pytest.mark.parametrize(
    "made_up",
    [
        member_change(CAROL, CAROL, "join"),
        StateChange(sender=CAROL, type="m.room.join_rules", state_key="", content={"join_rule": "invite"}),
    ],
)
async def test_what_the_commit_does_not_say_is_refused_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: StateChange
) -> None:
    async with told_room(tmp_path) as told:
        if made_up.type != "m.room.member":
            await told.tell(*await told.submit(told.alice.add(Member(CAROL), role=2)))
        lying(monkeypatch, made_up)
        lie, commit = await told.submit(handshake(told.alice, told.alice.joined().commit()))
        outcomes = await told.tell(lie, commit)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], FalselyVouched)
        assert "does not say" in str(outcomes[1])
        log = [entry.event_id for entry in told.pair.log(told.pair.a)]
        found(told, *log[-2:])


async def test_a_type_that_no_handshake_leads_to_is_refused(tmp_path: Path) -> None:
    async with told_room(tmp_path) as told:
        await told.tell(*await told.submit(told.alice.add(Member(CAROL), role=2)))
        (name,) = told.forge((CAROL, "m.room.avatar", CAROL, {}, NAME))
        (refusal,) = await told.tell(name.pdu)
        assert isinstance(refusal, FalselyVouched)
        found(told, name.event_id)
