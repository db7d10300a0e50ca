"""What a participant missed: it asks the hub for it, and believes only what holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from linearized.exceptions import InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import Rejected
from linearized.server import gaps
from tests.server.linearized_pair import (
    HubPair,
    changed,
    joined_pair,
    miss,
    next_event,
)


@pytest.mark.parametrize("missing", [1, 3, 4, 7])
async def test_a_gap_is_closed_by_asking_the_hub_page_by_page(
    tmp_path: Path, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "BACKFILL_LIMIT", 3)
    async with joined_pair(tmp_path) as pair:
        before = pair.row(pair.b).head_seq
        await miss(pair, missing)
        await next_event(pair)
        assert pair.row(pair.b).head_seq == before + missing + 1
        pair.agree()
        asked = [entry for entry in pair.network.log if "/backfill/" in entry[3]]
        assert len(asked) == -(-missing // 3)


Backfill = Callable[[HubPair, list[JsonObject]], JsonObject]


@pytest.mark.parametrize(
    "answer",
    [
        lambda pair, pdus: {},
        lambda pair, pdus: {"pdus": {}},
        lambda pair, pdus: {"pdus": [1]},
        lambda pair, pdus: {"pdus": []},
        lambda pair, pdus: {"pdus": [{}]},
        lambda pair, pdus: {"pdus": pdus[:-1]},
        lambda pair, pdus: {"pdus": [changed(pdu, signatures={}) for pdu in pdus]},
        lambda pair, pdus: {"pdus": [*pdus[:-1], changed(pdus[-1], prev_events=[])]},
        lambda pair, pdus: {"pdus": [*pdus[:-1], changed(pdus[-1], room_id="!other:a.example")]},
    ],
    ids=["none", "no list", "no object", "empty", "no event", "hole", "unsigned", "rootless", "other room"],
)
async def test_a_gap_the_hub_does_not_close_honestly_is_not_closed(
    tmp_path: Path, answer: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:
        before = pair.log(pair.b)
        await miss(pair, 3)
        pdus = [orjson.loads(entry.pdu) for entry in pair.log(pair.a)[-3:]]

        async def request(*_: Any, **__: Any) -> JsonObject:
            return answer(pair, pdus)

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(InvalidInput):
            await pair.b.node.rooms.receive_pdu(pair.room_id, pair.event(), "a.example")
        assert pair.log(pair.b) == before


async def test_a_log_that_never_meets_ours_is_refused_at_its_beginning(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        before = pair.log(pair.b)
        # The same hub, another past: every event is well signed, none is the one we have.
        fork = pair.event(prev_events=[pair.log(pair.a)[-2].event_id])
        with pytest.raises(InvalidInput):
            await pair.b.node.rooms.receive_pdu(pair.room_id, fork, "a.example")
        assert pair.log(pair.b) == before


@pytest.mark.parametrize("limit", ["MAX_BACKFILLS", "MAX_GAP_BYTES"])
async def test_a_gap_has_a_largest_size(tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "BACKFILL_LIMIT", 1)
    monkeypatch.setattr(gaps, limit, 2)
    async with joined_pair(tmp_path) as pair:
        await miss(pair, 4)
        with pytest.raises(Rejected):
            await pair.b.node.rooms.receive_pdu(pair.room_id, pair.event(), "a.example")
