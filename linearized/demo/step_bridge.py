"""Steps 1 to 3: the homeserver, the room that existed, and its import into one linear log on A."""

from __future__ import annotations

import time
from collections import Counter

import trio
from rich.progress import TaskID

from linearized.client import ProviderApi
from linearized.demo.existing_room import make_room
from linearized.demo.homeserver import JsonObject
from linearized.demo.log import bot_api, whole_log
from linearized.demo.participant import now_ms
from linearized.demo.world import World

MINIMUM_EVENTS = 300
DAY_MS = 86_400_000
WATCH_PAUSE_S = 0.5


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
    """Start A, import the room, start the bridge, and compare the log with the room."""
    world.checks.step = "3 bridging"
    task = world.progress.add_task("3 room is imported", total=len(world.matrix_order))
    await world.a.service.start()
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_import, world, task)
        world.room_id = await world.bridge.import_room(world.room.room_id)
        nursery.cancel_scope.cancel()
    seconds = time.monotonic() - began
    await world.bridge.service.start()
    async with bot_api(world) as bot:
        pdus = await whole_log(bot, world.room_id)
        await _compare_present(world, bot, pdus)
    imported = [pdu for pdu in pdus if pdu.get("provenance", {}).get("imported") is True]
    world.progress.update(task, completed=len(world.matrix_order))
    rate = f"{len(imported) / seconds:.0f} events/s with files, members and their MLS clients"
    world.checks.note("imported", f"{len(imported)} events in {seconds:.1f} s, {rate}")
    history = await world.room.users["alice"].history(world.room.room_id)
    compare_import(world, imported, history)
    types = Counter(pdu["type"] for pdu in pdus)
    world.checks.that("MLS commits in the log", types["m.mls.commit"] > 0, types["m.mls.commit"])
    origin = pdus[0]["content"].get("dev.linearized.origin", {}).get("room_id")
    world.checks.equal("the log's creation event names", origin, world.room.room_id)


async def _watch_import(world: World, task: TaskID) -> None:
    """Show how far the log has grown; run beside the import and cancelled after it."""
    async with bot_api(world) as bot:
        while True:
            for room_id in await bot.joined_rooms():
                page = await bot.log(room_id, after=0, limit=1)
                world.progress.update(task, completed=min(page.head_seq, len(world.matrix_order)))
            await trio.sleep(WATCH_PAUSE_S)


def compare_import(world: World, imported: list[JsonObject], history: list[JsonObject]) -> None:
    """The log holds the Matrix room's history: same events, order, senders, times and types."""
    # The log has a creation event of its own, which names the original. What happened in the Matrix room
    # after the import is not part of the comparison.
    known = {pdu["provenance"]["event_id"] for pdu in imported} | set(world.matrix_order)
    wanted = [event for event in history if event["type"] != "m.room.create" and event["event_id"] in known]
    world.checks.equal("events imported", len(imported), len(wanted))
    order = [pdu["provenance"]["event_id"] for pdu in imported]
    same = order == [event["event_id"] for event in wanted]
    world.checks.that("in the homeserver's order", same, f"{len(order)} compared")
    for what, key in (("senders", "sender"), ("timestamps", "origin_server_ts"), ("types", "type")):
        pairs = zip(imported, wanted, strict=False)
        different = sum(pdu[key] != event[key] for pdu, event in pairs)
        world.checks.equal(f"{what} that differ", different, 0)


async def _compare_present(world: World, bot: ProviderApi, pdus: list[JsonObject]) -> None:
    """Powers are what they were in the Matrix room, and imported messages have their files."""
    there = await world.room.users["alice"].call(
        "GET", f"/rooms/{world.room.room_id}/state/m.room.power_levels/"
    )
    state = {
        (event["type"], event["state_key"]): event["content"] for event in await bot.state(world.room_id)
    }
    here = state["m.room.power_levels", ""]["users"]
    kept = {user: here.get(user) for user in there["users"]}
    world.checks.equal("power levels of homeserver users", kept, there["users"])
    for key in ("name", "topic"):
        mine = state[f"m.room.{key}", ""][key]
        original = await world.room.users["alice"].call(
            "GET", f"/rooms/{world.room.room_id}/state/m.room.{key}/"
        )
        world.checks.equal(f"the room's {key}", mine, original[key])
    images = [pdu["content"]["url"] for pdu in pdus if pdu["content"].get("msgtype") == "m.image"]
    server, _, media_id = images[0].removeprefix("mxc://").partition("/")
    same = server == world.a.name and await bot.download_media(server, media_id) == world.room.image
    world.checks.that("images with the same bytes on A", same, f"{len(images)} of {images[0]}")
