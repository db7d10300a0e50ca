"""A room with a long past and many people, imported by a bridge that is a process and is killed (SIGKILL).

Small here; ``LINEARIZED_SOAK_IMPORT="EVENTS MEMBERS KILLS…"`` sets the size, and how often the bridge is
killed in each run, which ``make soak`` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest
import trio

from bridges.matrix.links import Phase
from bridges.matrix.process import open_bridge
from tests.bridges.fake_homeserver import MatrixRoom
from tests.bridges.imports.processes import PROVIDER, Processes, Progress, long_past, make_processes, running
from tests.bridges.support import BOT, MATRIX_ROOM

EVENTS, MEMBERS, *RUNS = map(int, os.environ.get("LINEARIZED_SOAK_IMPORT", "200 25 2").split())
SEED = 20261126
# In which part of the import each kill comes; somewhere between these shares of it, so that it comes in time.
PARTS = ("imported", "clients", "read", "imported", "clients")
EARLIEST, LATEST = 0.1, 0.8
# What an operator has to have free for a bridge, or for a provider, while a large room is imported.
MAX_PEAK = 300 * 1024 * 1024
POLL = 0.05
BRIDGE_BOT = f"@_bridge:{PROVIDER}"
# Of nothing new at all. The soak's machine does other things as well.
STILL = 120.0

# Type, sender, state key, time and content.
Entry = tuple[str, str, str | None, int, Any]


def points(kills: int) -> list[tuple[str, int]]:
    """For each kill, which part of the import it comes in, and after how much of it; in this order."""
    random = Random(SEED)  # noqa: S311 - chooses what happens when
    totals = {"read": EVENTS, "imported": EVENTS, "clients": MEMBERS}
    parts = sorted((PARTS * kills)[:kills], key=list(totals).index)
    found = [(part, int(random.uniform(EARLIEST, LATEST) * totals[part])) for part in parts]
    return sorted(found, key=lambda point: (parts.index(point[0]), point[1]))


async def until(processes: Processes, reached: Callable[[Progress], bool]) -> None:
    """Wait for the import to come so far; it may take long, but not stand still."""
    last, since = processes.progress(), monotonic()
    while not reached(now := processes.progress()):
        processes.note_peaks()
        if now != last:
            last, since = now, monotonic()
        assert monotonic() - since < STILL, (now, processes.bridge.log.read_text()[-2000:])
        await trio.sleep(POLL)
    processes.note_peaks()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was imported, in the log's order, and who is in the group at the end."""

    entries: list[Entry]
    members: set[str]


def wanted(room: MatrixRoom) -> Outcome:
    """The room's past, until the bot was in it, as it has to be in the log."""
    entries: list[Entry] = []
    for event in room.timeline:
        content = event["content"]
        if event["type"] == "m.room.power_levels":
            content = {**content, "users": {**content["users"], BRIDGE_BOT: 100}}
        entries.append(
            (event["type"], event["sender"], event.get("state_key"), event["origin_server_ts"], content)
        )
        if event["sender"] == BOT:
            break
    joined = {user for user, membership in room.members.items() if membership == "join"}
    return Outcome(entries=entries[1:], members=joined - {BOT} | {BRIDGE_BOT})


async def outcome(processes: Processes) -> Outcome:
    await processes.bridge.stop()
    entries: list[Entry] = []
    async with open_bridge(processes.config) as bridge:
        link = bridge.links.of_matrix(MATRIX_ROOM)
        assert link is not None
        assert link.room_id is not None
        bot, after = bridge.puppets.bot, 0
        while pdus := (page := await bot.api.log(link.room_id, after=after, limit=100)).pdus:
            after = page.first_seq + len(pdus) - 1
            entries += [
                (pdu["type"], pdu["sender"], pdu.get("state_key"), pdu["origin_server_ts"], pdu["content"])
                for pdu in pdus
                if pdu.get("provenance", {}).get("imported")
            ]
        members = {owner.user_id for owner in bot.device.members(link.room_id).values()}
    return Outcome(entries=entries, members=members)


async def imported(processes: Processes, kills: int) -> dict[Phase, float]:
    """Import the room, killing the bridge so often; returns the seconds that passed until each phase."""
    seconds: dict[Phase, float] = {}
    begun, phases = monotonic(), list(Phase)

    async def until_phase(phase: Phase) -> None:
        at = phases.index(phase)
        await until(processes, lambda now: now.phase is not None and phases.index(now.phase) >= at)
        seconds[phase] = monotonic() - begun

    async def until_point(part: str, least: int) -> None:
        await until(processes, lambda now: getattr(now, part) >= least)

    for part, least in points(kills):
        await until_point(part, least)
        assert processes.progress().phase is not Phase.LIVE
        await processes.kill_bridge()
    await until_phase(Phase.ADDING)
    await until_phase(Phase.LIVE)
    return seconds


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return make_processes(tmp_path)


@pytest.mark.parametrize("kills", RUNS)
async def test_however_often_a_bridge_is_killed_it_imports_everything_once_in_order_and_within_its_memory(
    processes: Processes, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    room = long_past(processes.homeserver, EVENTS, MEMBERS)
    async with running(processes):
        await processes.invite(room)
        seconds = await imported(processes, kills)
        found = await outcome(processes)
    importing = seconds[Phase.ADDING]
    measured = {
        "events": EVENTS,
        "members": MEMBERS,
        "kills": kills,
        "import_seconds": round(importing, 1),
        "events_per_second": round(EVENTS / importing),
        "members_seconds": round(seconds[Phase.LIVE] - importing, 1),
        **{f"{name}_peak_mb": round(peak / 2**20) for name, peak in sorted(processes.peaks.items())},
    }
    with capsys.disabled():
        print(f"\n{json.dumps(measured)}")
    assert found == wanted(room)
    for name, peak in processes.peaks.items():
        assert peak < MAX_PEAK, name
