"""Steps 1 to 3: the homeserver, the room that existed, and its import into one linear log on A."""

from __future__ import annotations

import time
from collections import Counter

from linearized.demo.existing_room import make_room
from linearized.demo.homeserver import JsonObject
from linearized.demo.log import bot_api, whole_log
from linearized.demo.participant import now_ms
from linearized.demo.world import World

MINIMUM_EVENTS = 300
DAY_MS = 86_400_000


async def start_homeserver(world: World) -> None:
    """Start Synapse with the bridge's registration."""
    world.checks.step = "1 homeserver"
    task = world.progress.add_task("1 homeserver starts", total=1)
    began = time.monotonic()
    # The homeserver may call the bridge as soon as it runs; a bridge that is not there yet is no error to it.
    await world.homeserver.start()
    world.checks.note("Synapse started", f"{time.monotonic() - began:.1f} s, PID {world.homeserver.pid}")
    world.progress.update(task, completed=1)


async def make_existing_room(world: World) -> None:
    """Five users talk for five days."""
    world.checks.step = "2 existing room"
    task = world.progress.add_task("2 existing room is made", total=None)
    began = time.monotonic()
    world.existing = await make_room(
        world.homeserver_http,
        world.homeserver_files,
        history_token=world.history_token,
        now_ms=now_ms(),
        progress=lambda done, total: world.progress.update(task, completed=done, total=total),
    )
    seconds = time.monotonic() - began
    history = await world.room.users["alice"].history(world.room.room_id)
    world.matrix_order = [event["event_id"] for event in history]
    times = [event["origin_server_ts"] for event in history if event["type"] == "m.room.message"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in world.room.kinds.items())
    rate = len(history) / seconds
    world.checks.that(
        "events in the Matrix room", len(history) >= MINIMUM_EVENTS, f"{len(history)} ({rate:.0f}/s)"
    )
    world.checks.note("of these", kinds)
    world.checks.that(
        "days they span", times[-1] - times[0] > 3 * DAY_MS, f"{(times[-1] - times[0]) / DAY_MS:.1f}"
    )


async def bridge_room(world: World) -> None:
    """Start A and the bridge, import the room, and compare the log with the room."""
    world.checks.step = "3 bridging"
    task = world.progress.add_task("3 room is imported", total=len(world.matrix_order))
    await world.a.service.start()
    await world.bridge.service.start()
    began = time.monotonic()
    world.room_id = await world.bridge.import_room(world.room.room_id)
    seconds = time.monotonic() - began
    async with bot_api(world) as bot:
        pdus = await whole_log(bot, world.room_id)
    imported = [pdu for pdu in pdus if pdu.get("provenance", {}).get("imported") is True]
    world.progress.update(task, completed=len(world.matrix_order))
    world.checks.note(
        "import", f"{len(imported)} events, {len(imported) / seconds:.0f}/s with group and members"
    )
    history = await world.room.users["alice"].history(world.room.room_id)
    expected = [event for event in history if event["event_id"] in set(world.matrix_order)]
    compare_import(world, imported, expected)
    types = Counter(pdu["type"] for pdu in pdus)
    world.checks.that(
        "the log has a first commit", types["m.mls.commit"] > 0, f"{types['m.mls.commit']} commits"
    )


def compare_import(world: World, imported: list[JsonObject], history: list[JsonObject]) -> None:
    """The log's imported part is the Matrix room's history: same events, order, senders, times and types."""
    # The log has a creation event of its own, which names the original.
    wanted = [event for event in history if event["type"] != "m.room.create"]
    world.checks.equal("events imported", len(imported), len(wanted))
    order = [pdu["provenance"]["event_id"] for pdu in imported]
    same = order == [event["event_id"] for event in wanted]
    world.checks.that("in the homeserver's order", same, f"{len(order)} compared")
    for what, key in (("senders", "sender"), ("timestamps", "origin_server_ts"), ("types", "type")):
        pairs = zip(imported, wanted, strict=False)
        different = sum(pdu[key] != event[key] for pdu, event in pairs)
        world.checks.equal(f"{what} that differ", different, 0)
