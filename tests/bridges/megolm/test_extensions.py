from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from bridges.matrix.database import Database
from bridges.matrix.megolm.extensions import (
    KNOWN_DEADLINE,
    MAX_PROBE_PAUSE,
    PROBE_DEADLINE,
    PROBE_PAUSE,
    Extensions,
)

COUNTS: dict[str, object] = {"org.matrix.msc3202.device_one_time_keys_count": {"@bot:hs": {"D": {}}}}


@pytest.fixture
def database() -> Iterator[Database]:
    found = Database(":memory:")
    yield found
    found.close()


def answer(found: Extensions) -> dict[str, object]:
    """The transaction that brings the probe back."""
    return {"de.sorunome.msc2409.to_device": [{"content": found.content}], **COUNTS}


class Probes:
    """The probes that were sent, by time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def send(self) -> None:
        self.times.append(trio.current_time())


async def test_a_homeserver_that_was_never_seen_to_pass_keys_on_is_given_up_soon(
    database: Database, autojump_clock: MockClock
) -> None:
    found, began = Extensions(database, probe="x"), trio.current_time()
    await found.verify(Probes().send, patient=True)
    assert trio.current_time() - began == pytest.approx(PROBE_DEADLINE)
    assert "MSC2409" in str(found.missing())


async def test_who_checks_does_not_wait_for_long(database: Database, autojump_clock: MockClock) -> None:
    found = Extensions(database, probe="x")
    found.saw(answer(found))
    found, began = Extensions(database, probe="y"), trio.current_time()
    await found.verify(Probes().send)
    assert trio.current_time() - began == pytest.approx(PROBE_DEADLINE)


async def test_one_that_did_is_believed_while_it_is_asked_less_and_less_often_for_long(
    database: Database, autojump_clock: MockClock
) -> None:
    before = Extensions(database, probe="x")
    before.saw(answer(before))
    assert before.missing() is None
    found, probes, began = Extensions(database, probe="y"), Probes(), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(found.verify, probes.send, patient=True))
        await trio.sleep(KNOWN_DEADLINE - 1)
        # What answers a probe of another life is no answer.
        found.saw(answer(before))
        assert found.missing() is None
    assert trio.current_time() - began == pytest.approx(KNOWN_DEADLINE)
    assert "MSC2409" in str(found.missing())
    pauses = [after - one for one, after in zip(probes.times, probes.times[1:], strict=False)]
    assert pauses[:2] == pytest.approx([PROBE_PAUSE, 2 * PROBE_PAUSE])
    assert max(pauses) == pytest.approx(MAX_PROBE_PAUSE)
    # It may come even then.
    found.saw(answer(found))
    assert found.missing() is None
