"""What the bridge costs people on both sides of it: how many messages a second cross, and how much later they
come than without it.

    python -m benchmarks.bench_bridge [--messages 300] [--paced 150] [--pause 0.25]

Synapse (in an environment of its own, ``make synapse``), two providers and the bridge of one of them run as
processes with their usual settings, over loopback, on SQLite; people have clients in this process. Paced
messages measure latency, one at a time with a pause between them; a burst measures the rate. Each is measured
beside the homeserver alone: the same messages on their way to another user of the same homeserver.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from linearized.demo.homeserver import MatrixUser
from linearized.demo.participant import Participant
from linearized.demo.talk import body_of
from linearized.mimi.content import text
from tests.homeserver.people import Eyes, crowd, heard, people
from tests.homeserver.scene import Room, bridged_room
from tests.homeserver.stage import Stage, make_stage

# The first is who looks; the others speak.
HERE = ("watch", *(f"speaker{number}" for number in range(8)))
THERE = ("bea", "bill", "bo", "brad", "bree")
# What is said first is not counted: clients of the bridge are made, connections opened.
WARM_UP = 20

Numbers = dict[str, Any]


def spread(seconds: Sequence[float]) -> Numbers:
    """Milliseconds, in the middle and at the ends."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1000, 1),
        "p90": round(cuts[89] * 1000, 1),
        "p99": round(cuts[98] * 1000, 1),
        "max": round(max(seconds) * 1000, 1),
        "count": len(seconds),
    }


def cpu_seconds(stage: Stage) -> dict[str, float]:
    """CPU that each program has used, all threads."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    programs = {"homeserver": stage.homeserver, "hub": stage.a, "provider": stage.b, "bridge": stage.bridge}
    for name, service in programs.items():
        fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = (int(fields[11]) + int(fields[12])) / ticks
    return found


class Bench:
    """One room, and what has been said in it."""

    def __init__(self, stage: Stage, room: Room) -> None:
        self.stage, self.room = stage, room
        self.listener = room.people[THERE[0]]

    async def here(self, user: MatrixUser, body: str) -> tuple[str, float, float]:
        """Say it in Matrix: the event's ID, when it was sent and when the homeserver answered."""
        began = time.monotonic()
        content = {"msgtype": "m.text", "body": body}
        event_id = await user.send(self.room.matrix_id, "m.room.message", content)
        return event_id, began, time.monotonic()

    async def there(self, person: Participant, body: str) -> tuple[float, float]:
        """Say it at the other provider: when it was sent and when the provider answered."""
        began = time.monotonic()
        await person.session.send(self.room.room_id, text(body, salt=secrets.token_bytes(16)))
        return began, time.monotonic()

    def heard(self) -> dict[str, float]:
        """When the listener at the other provider had what."""
        pairs = zip(self.listener.items, self.listener.arrivals, strict=True)
        from_matrix = {item.event_id: item for item in self.room.there(self.listener)}
        found = {from_matrix[i.event_id]: at for i, at in pairs if i.event_id in from_matrix}
        return {body_of(item): at for item, at in found.items()}

    def seen(self) -> dict[str, float]:
        """When the one who looks in Matrix had what the ghosts said."""
        arrivals = self.room.eyes.arrivals
        return {e["content"]["body"]: arrivals[e["event_id"]] for e in self.room.here()}

    async def all_heard(self, bodies: set[str]) -> None:
        await heard(self.listener, "everything", lambda _: bodies <= self.heard().keys())

    async def all_seen(self, bodies: set[str]) -> None:
        await self.room.eyes.until("everything", lambda: bodies <= self.seen().keys())

    # --- one at a time ---

    async def latency_from_matrix(self, count: int, pause: float) -> Numbers:
        speakers = list(self.room.crowd.users.values())[1:]
        sent = {}
        for number in range(count):
            body = f"paced {number}"
            sent[body] = await self.here(speakers[number % len(speakers)], body)
            await trio.sleep(pause)
        await self.all_heard(set(sent))
        arrivals, eyes = self.heard(), self.room.eyes.arrivals
        await self.room.eyes.until("its own", lambda: all(one[0] in eyes for one in sent.values()))
        return {
            "homeserver_send_ms": spread([answered - began for _, began, answered in sent.values()]),
            "homeserver_ms": spread([eyes[event] - answered for event, _, answered in sent.values()]),
            "visible_ms": spread([arrivals[body] - sent[body][2] for body in sent]),
            "added_ms": spread([arrivals[body] - eyes[sent[body][0]] for body in sent]),
        }

    async def latency_from_mimi(self, count: int, pause: float, homeserver_s: float) -> Numbers:
        speakers = [self.room.people[name] for name in THERE[1:]]
        sent = {}
        for number in range(count):
            body = f"answer {number}"
            sent[body] = await self.there(speakers[number % len(speakers)], body)
            await trio.sleep(pause)
        await self.all_seen(set(sent))
        arrivals = self.seen()
        visible = [arrivals[body] - answered for body, (_, answered) in sent.items()]
        return {
            "provider_send_ms": spread([answered - began for began, answered in sent.values()]),
            "visible_ms": spread(visible),
            "added_ms": spread([one - homeserver_s for one in visible]),
        }

    # --- as many as possible ---

    async def rate_from_matrix(self, count: int) -> Numbers:
        speakers = list(self.room.crowd.users.values())[1:]
        each = count // len(speakers)
        ids: dict[str, str] = {}
        before, began = cpu_seconds(self.stage), time.monotonic()

        async def speak(number: int, user: MatrixUser) -> None:
            for one in range(each):
                body = f"burst {number} {one}"
                ids[body] = (await self.here(user, body))[0]

        async with trio.open_nursery() as nursery:
            for number, user in enumerate(speakers):
                nursery.start_soon(speak, number, user)
        answered = time.monotonic()
        await self.all_heard(set(ids))
        ended = max(at for body, at in self.heard().items() if body in ids)
        return self._rates(len(ids), began, answered, ended, before)

    async def rate_from_mimi(self, count: int) -> Numbers:
        speakers = [self.room.people[name] for name in THERE[1:]]
        each, bodies = count // len(speakers), set[str]()
        before, began = cpu_seconds(self.stage), time.monotonic()

        async def speak(number: int, person: Participant) -> None:
            for one in range(each):
                bodies.add(body := f"back {number} {one}")
                await self.there(person, body)

        async with trio.open_nursery() as nursery:
            for number, person in enumerate(speakers):
                nursery.start_soon(speak, number, person)
        answered = time.monotonic()
        await self.all_seen(bodies)
        ended = max(at for body, at in self.seen().items() if body in bodies)
        return self._rates(len(bodies), began, answered, ended, before)

    def _rates(
        self, count: int, began: float, answered: float, ended: float, before: dict[str, float]
    ) -> Numbers:
        used = {name: seconds - before[name] for name, seconds in cpu_seconds(self.stage).items()}
        return {
            "messages": count,
            "accepted_per_second": round(count / (answered - began), 1),
            "crossed_per_second": round(count / (ended - began), 1),
            "cpu_ms_per_message": {name: round(s * 1000 / count, 1) for name, s in used.items()},
            "busy": {name: round(s / (ended - began), 2) for name, s in used.items()},
        }


async def alone(speakers: Sequence[MatrixUser], count: int, owner: MatrixUser) -> Numbers:
    """The homeserver without a bridge: the same users in a room that is not bridged."""
    invited = [user.user_id for user in speakers]
    room = await owner.call("POST", "/createRoom", body={"preset": "private_chat", "invite": invited})
    for user in speakers:
        await user.call("POST", f"/join/{room['room_id']}", body={})
    each, began = count // len(speakers), time.monotonic()

    async def speak(user: MatrixUser) -> None:
        for number in range(each):
            content = {"msgtype": "m.text", "body": f"alone {number}"}
            await user.send(room["room_id"], "m.room.message", content)

    async with trio.open_nursery() as nursery:
        for user in speakers:
            nursery.start_soon(speak, user)
    return {"accepted_per_second": round(each * len(speakers) / (time.monotonic() - began), 1)}


async def measure(stage: Stage, options: argparse.Namespace) -> Numbers:
    async with (
        crowd(stage.files, HERE) as here,
        people(stage, THERE, "bench") as there,
        trio.open_nursery() as nursery,
    ):
        eyes = Eyes(here.users["watch"])
        nursery.start_soon(eyes.watch)
        room = await bridged_room(stage, here, eyes, there, members=HERE)
        bench = Bench(stage, room)
        await bench.latency_from_matrix(WARM_UP, 0)
        await bench.latency_from_mimi(WARM_UP, 0, 0)
        from_matrix = await bench.latency_from_matrix(options.paced, options.pause)
        # What the homeserver takes for a message of a ghost is what it takes for one of a user.
        own = (from_matrix["homeserver_send_ms"]["p50"] + from_matrix["homeserver_ms"]["p50"]) / 1000
        result = {
            "latency": {
                "matrix_to_mimi": from_matrix,
                "mimi_to_matrix": await bench.latency_from_mimi(options.paced, options.pause, own),
            },
            "rate": {
                "homeserver_alone": await alone(
                    list(here.users.values())[1:], options.messages, here.users["watch"]
                ),
                "matrix_to_mimi": await bench.rate_from_matrix(options.messages),
                "mimi_to_matrix": await bench.rate_from_mimi(options.messages),
            },
        }
        nursery.cancel_scope.cancel()
    return result


async def run(stage: Stage, options: argparse.Namespace) -> Numbers:
    try:
        await stage.start()
        return await measure(stage, options)
    finally:
        with trio.CancelScope(shield=True):
            await stage.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=300, help="in each burst")
    parser.add_argument("--paced", type=int, default=150, help="one at a time, each way")
    parser.add_argument("--pause", type=float, default=0.25, help="seconds between those")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        # Bridges audit every ten minutes; a benchmark is over before.
        result = trio.run(run, make_stage(Path(directory), audit_seconds=600), options)
    about = {"python": platform.python_version(), "cores": os.cpu_count(), "load_before": load}
    print(json.dumps({"about": about, "options": vars(options), **result}, indent=1))


if __name__ == "__main__":
    main()
