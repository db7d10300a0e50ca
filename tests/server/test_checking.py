"""Signatures of many LPDUs, in threads or not: the same outcomes in the same order."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from linearized.exceptions import HashMismatch, SignatureError
from linearized.protocol.events import parse_lpdu
from linearized.protocol.verify import ClaimedLpdu, VerifiedLpdu, claim_lpdu, verify_lpdus
from linearized.server import checking
from linearized.server.checking import THREADS, WORTH_THREADS, Checker
from tests.protocol.support import DEV_1, PARTICIPANT, lpdu

KEYS = {PARTICIPANT.key.key_id: PARTICIPANT.key.verify_key}


def claimed(number: int) -> ClaimedLpdu:
    """An LPDU; every fifth has been changed after it was signed."""
    pdu = lpdu(content={"n": number})
    if number % 5 == 0:
        pdu["content"]["n"] = -1
    return claim_lpdu(parse_lpdu(pdu, DEV_1), version=DEV_1, origin=PARTICIPANT.name, keys=KEYS)


@pytest.mark.parametrize("in_threads", [False, True])
@pytest.mark.parametrize("count", [0, 1, WORTH_THREADS, 50, 51])
async def test_each_stands_or_falls_alone_and_in_order(count: int, in_threads: bool) -> None:
    each = [claimed(number) for number in range(count)]
    outcomes = await Checker(in_threads=in_threads).verify(each)
    for number, (one, outcome) in enumerate(zip(each, outcomes, strict=True)):
        if number % 5 == 0:
            assert isinstance(outcome, SignatureError | HashMismatch)
        else:
            assert outcome == VerifiedLpdu(lpdu=one.lpdu, origin=PARTICIPANT.name)


@pytest.mark.parametrize(
    ("count", "in_threads", "elsewhere"),
    [(WORTH_THREADS - 1, True, 0), (WORTH_THREADS, True, THREADS), (50, False, 0)],
)
async def test_only_many_go_to_threads(
    count: int, in_threads: bool, elsewhere: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def noted(each: Any) -> Any:
        ran.append(threading.get_ident())
        return verify_lpdus(each)

    monkeypatch.setattr(checking, "verify_lpdus", noted)
    await Checker(in_threads=in_threads).verify([claimed(number) for number in range(1, count + 1)])
    assert len([thread for thread in ran if thread != threading.get_ident()]) == elsewhere
