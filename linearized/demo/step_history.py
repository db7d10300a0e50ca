"""Step 7: an unmodified Matrix client reads the whole history from A, and every event of it is verified."""

from __future__ import annotations

import json
import time
from pathlib import Path

from linearized.client.verify import server_keys
from linearized.demo.homeserver import JsonObject
from linearized.demo.log import VerifiedLog, bot_api, verify_pdus, whole_log
from linearized.demo.processes import run_command
from linearized.demo.secrecy import found_in, kept_bytes
from linearized.demo.world import READER_PASSWORD, World, program

NIO_SCRIPT = Path(__file__).with_name("nio_history.py")


async def read_history(world: World) -> None:
    """A user of A with matrix-nio is invited, joins, syncs and pages back to the creation event."""
    world.checks.step = "7 history"
    task = world.progress.add_task("7 matrix-nio reads the history", total=3)
    async with bot_api(world) as bot:
        await bot.invite(world.room_id, world.reader)
        answer = await _run_nio(world)
        world.progress.update(task, advance=1)
        began = time.monotonic()
        keys = server_keys(await bot.server_keys())
        log = verify_pdus(
            await whole_log(bot, world.room_id), lambda server, key_id: keys.get((server, key_id))
        )
        seconds = time.monotonic() - began
    rate = f"{len(log.events) / seconds:.0f}/s with fetching"
    measured = (
        log.broken or f"{len(log.events)} ({rate}), {log.report.commits} commits to epoch {log.report.epoch}"
    )
    world.checks.that("hash, signature, link, rules of each", log.broken is None, measured)
    _compare(world, answer["events"], log)
    world.progress.update(task, advance=1)
    await _verify_database(world)
    _check_secrecy(world)
    _check_logs(world)
    world.progress.update(task, advance=1)


async def _run_nio(world: World) -> JsonObject:
    request = {
        "homeserver": world.a.url,
        "ca": str(world.a.ca),
        "user_id": world.reader,
        "password": READER_PASSWORD,
        "room_id": world.room_id,
        "join": True,
    }
    output = await run_command(
        [str(program("LINEARIZED_NIO_PYTHON", "nio")), str(NIO_SCRIPT)],
        log=world.directory / "logs" / "nio.log",
        stdin=json.dumps(request).encode(),
    )
    answer: JsonObject = json.loads(output)
    count, pages, seconds = len(answer["events"]), answer["pages"], answer["seconds"]
    measured = (
        f"{count} events, {pages} pages, {count / seconds:.0f}/s; first sync {answer['sync_seconds']:.2f} s"
    )
    world.checks.note("matrix-nio: login, sync, paging", measured)
    _check_unparsed(world, answer)
    world.checks.equal("the room's name to it", answer["room_name"], "The Clubhouse")
    return answer


def _check_unparsed(world: World, answer: JsonObject) -> None:
    """What matrix-nio has no form for is what it cannot have one for: MLS ciphertexts, and redacted messages.

    It takes every ``m.room.encrypted`` for Olm or Megolm (and misses their ``sender_key``), and a message of
    which a redaction left nothing for malformed unless it carries the redaction along.
    """
    by_id = {event["event_id"]: event for event in answer["events"]}
    unparsed = [by_id[event_id] for event_id in answer["unparsed"]]
    ciphertexts = sum(event["type"] == "m.room.encrypted" for event in unparsed)
    redacted = sum(event["type"] == "m.room.message" and not event["content"] for event in unparsed)
    others = len(unparsed) - ciphertexts - redacted
    measured = f"{others}, beside {ciphertexts} MLS ciphertexts and {redacted} redacted messages"
    world.checks.that("events it could not parse", others == 0, measured)


def _compare(world: World, seen: list[JsonObject], log: VerifiedLog) -> None:
    """What the client was shown is what the signed log says, from the creation event on."""
    world.checks.equal("oldest event the client reached", seen[0]["type"], "m.room.create")
    ids = [event["event_id"] for event in seen]
    world.checks.that(
        "the client's order is the log's",
        ids == [event.event_id for event in log.events],
        f"{len(ids)} compared",
    )
    by_id = {event.event_id: event for event in log.events}
    keys = ("type", "sender", "origin_server_ts", "content", "state_key")
    differing = [
        event["event_id"]
        for event in seen
        if event["event_id"] not in by_id
        or any(event.get(key) != by_id[event["event_id"]].pdu.get(key) for key in keys)
    ]
    world.checks.equal("events shown other than signed", len(differing), 0)


async def _verify_database(world: World) -> None:
    """``linearized room verify`` on the running A: the same and more, including every MLS commit."""
    began = time.monotonic()
    output = (await world.a.command("room", "verify", world.room_id)).decode()
    (world.directory / "logs" / "room-verify.txt").write_text(output, encoding="utf-8")
    commits = next((line.split()[-1] for line in output.splitlines() if "commits" in line), "?")
    measured = f"holds: {commits} commits staged again, {time.monotonic() - began:.1f} s"
    world.checks.note("linearized room verify", measured)


def _check_secrecy(world: World) -> None:
    """The providers hold only ciphertext of what was said after bridging; what was said before, A holds."""
    for provider in (world.a, world.b):
        data = kept_bytes(provider.directory / "data", provider.service.log)
        found = found_in(data, world.secrets)
        size = f"{len(world.secrets)} sought in {len(data) / 1e6:.1f} MB of database, media and log"
        world.checks.that(f"plaintexts at {provider.name}", not found, f"{len(found)} ({size})")
    before = found_in(kept_bytes(world.a.directory / "data"), ["Day 1: what is broken, and who mends it"])
    world.checks.that("the search finds imported history", bool(before), f"{len(before)} of 1")


def _check_logs(world: World) -> None:
    """No program of ours met a bug: a request that failed for no reason of its sender's, or a traceback."""
    logs = (world.a.service.log, world.b.service.log, world.bridge.service.log)
    complaints = [line for log in logs for line in bugs_in(log.read_text(encoding="utf-8", errors="replace"))]
    world.checks.that("bugs in the programs' logs", not complaints, complaints[0] if complaints else 0)


def bugs_in(log: str) -> list[str]:
    """The lines of a log that only a bug writes."""
    return [line for line in log.splitlines() if "request_failed" in line or line.startswith("Traceback")]
