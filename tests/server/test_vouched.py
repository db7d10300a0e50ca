"""Where a copy stands among handshakes: what proposals bring about may come when we have started again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linearized.protocol.state import membership
from linearized.room.vouching import FalselyVouched
from tests.interop.hostile_vouching import CAROL, Told, told_room
from tests.room.support import Member


async def left(told: Told) -> list[dict[str, Any]]:
    """Carol has come, which the participant knows, and goes: what the hub appends."""
    carol = Member(CAROL)
    await told.tell(*await told.submit(told.alice.add(carol)))
    carol.join(told.accepted)
    proposal, leaves, *_ = await told.leave(carol)
    assert (proposal["type"], leaves["content"]) == ("m.mls.proposal", {"membership": "leave"})
    return [proposal, leaves]


async def test_who_proposes_to_leave_is_out_whenever_that_comes(tmp_path: Path) -> None:
    async with told_room(tmp_path) as told:
        proposal, leaves = await left(told)
        assert await told.tell(proposal) == [None]
        assert await told.tell(leaves) == [None]
        assert membership(told.pair.b.node.rooms.state(told.pair.room_id), CAROL) == "leave"
        assert len(told.kept()) == len(set(told.kept()))


@pytest.mark.parametrize("shown", [True, False])
async def test_more_than_the_proposals_say_is_refused_whenever_that_comes(
    tmp_path: Path, shown: bool
) -> None:
    async with told_room(tmp_path) as told:
        pdus = await left(told)
        taken = pdus if shown else pdus[:1]
        assert await told.tell(*taken) == [None] * len(taken)
        back = (CAROL, "m.room.member", CAROL, {"membership": "join"}, pdus[1]["provenance"]["mls"])
        (event,) = told.forge(back, after=told.kept()[-1])
        (refusal,) = await told.tell(event.pdu)
        assert isinstance(refusal, FalselyVouched), refusal
        assert "do not say" in str(refusal)
