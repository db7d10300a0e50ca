"""Two homeservers that federate, and a burst from the far one: the near one's feed to the bridge loses some
of it, because events that come to it late, by back-filling, are pushed to nobody. Audits find them.

Short here; ``LINEARIZED_SOAK_BURST=EVENTS`` sets how many, which ``make soak`` does.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

from linearized.demo.homeserver import HomeserverFiles, MatrixUser
from linearized.demo.participant import Participant
from linearized.demo.ports import free_ports
from linearized.demo.talk import body_of
from tests.homeserver.people import Eyes, crowd, heard, people
from tests.homeserver.scene import Room, bridged_room
from tests.homeserver.stage import Stage, federation_at, homeserver, make_stage, synapse

EVENTS = int(os.environ.get("LINEARIZED_SOAK_BURST", "40"))
AT_ONCE = 16
MANY = 500


@pytest.fixture
def federating(tmp_path: Path) -> Stage:
    """The near homeserver, its bridge and provider; nothing runs yet."""
    (port,) = free_ports(1)
    return make_stage(tmp_path, federation=federation_at(tmp_path / "near", port))


def far_away(directory: Path) -> HomeserverFiles:
    matrix_port, port = free_ports(2)
    return HomeserverFiles(
        directory=directory / "far",
        port=matrix_port,
        python=synapse(),
        registrations=(),
        shared_secret=secrets.token_urlsafe(24),
        server_name=f"localhost:{port}",
        federation=federation_at(directory / "far", port),
    )


async def say(user: MatrixUser, room: Room, body: str) -> None:
    await user.send(room.matrix_id, "m.room.message", {"msgtype": "m.text", "body": body})


async def burst(zoe: MatrixUser, room: Room) -> None:
    """Everything at once, as far as a homeserver takes things at once."""
    slots = trio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            await say(zoe, room, f"far {number}")

    async with trio.open_nursery() as nursery:
        for number in range(EVENTS):
            nursery.start_soon(one, number)


def relayed(person: Participant, room: Room, sender: str) -> Counter[str]:
    """How often somebody heard each thing that the bot said for a user of the far homeserver."""
    said = [item for item in person.messages if item.room_id == room.room_id]
    bodies = [body_of(item) for item in said if item.sender_uri == "mimi://a.example/u/_bridge"]
    assert all(body.startswith(f"<{sender}> ") for body in bodies)
    return Counter(body.partition("> ")[2] for body in bodies)


def never_pushed(stage: Stage, sender: str) -> int:
    """How many events of somebody came to a homeserver late: it numbers those backwards and pushes none."""
    database = stage.files.directory / "homeserver.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        asked = "SELECT COUNT(*) FROM events WHERE sender = ? AND stream_ordering < 0"
        ((count,),) = reader.execute(asked, (sender,))
    return int(count)


async def test_what_a_federated_burst_loses_on_its_way_to_the_bridge_an_audit_finds(
    federating: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, files = federating, far_away(tmp_path)
    try:
        await stage.start(homeserver(files, tmp_path / "far.log"))
        async with (
            crowd(stage.files, ("ann",)) as near,
            crowd(files, ("zoe",)) as far,
            people(stage, ("amy",), "burst") as there,
            trio.open_nursery() as nursery,
        ):
            eyes = Eyes(near.users["ann"])
            nursery.start_soon(eyes.watch)
            room = await bridged_room(stage, near, eyes, there, members=("ann",), preset="public_chat")
            zoe, amy = far.users["zoe"], there["amy"]
            await zoe.call("POST", f"/join/{room.matrix_id}", query={"server_name": stage.domain}, body={})
            # A homeserver catches up with another one only after it has reached it once.
            await say(zoe, room, "far begin")
            heard_by_amy = partial(relayed, amy, room, zoe.user_id)
            await heard(amy, "the beginning", lambda _: "far begin" in heard_by_amy())
            # What is said while it is away, the near homeserver asks for only when somebody reads so far.
            await stage.homeserver.kill()
            await burst(zoe, room)
            await stage.homeserver.start()
            # The far one tries an absent one again when it hears from it.
            await say(near.users["ann"], room, "here again")
            await say(zoe, room, "far end")
            wanted = Counter(["far begin", *(f"far {number}" for number in range(EVENTS)), "far end"])
            await heard(amy, "all", lambda _: wanted.keys() <= heard_by_amy().keys())
            # What is said now comes after everything that would have come twice.
            await say(zoe, room, "far away")
            await heard(amy, "the last", lambda _: "far away" in heard_by_amy())
            assert heard_by_amy() == wanted + Counter(["far away"])
            lost = never_pushed(stage, zoe.user_id)
            with capsys.disabled():
                print(f"\nof {EVENTS} events of another homeserver the feed lost {lost}")
            # Some it asks for by itself when it is back. Of many it leaves some to whoever reads so far.
            assert lost or EVENTS < MANY
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await stage.stop()
