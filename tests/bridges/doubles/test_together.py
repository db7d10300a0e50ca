"""Double puppeting in a whole bridge, with providers."""

from __future__ import annotations

from pathlib import Path

import structlog

from linearized.client import MessageStatus, status_report
from tests.bridges.doubles.rig import TOKEN, URI
from tests.bridges.doubles.support import Person, linked
from tests.bridges.support import ALICE, BOT, CAROL, GHOST_BOB, push_events
from tests.bridges.test_live import body_of, by, heard
from tests.bridges.test_receipts import unit

SALT = b"s" * 16


def written(directory: Path) -> bytes:
    """Everything in the bridge's database, and what SQLite keeps beside it."""
    return b"".join(path.read_bytes() for path in directory.glob("bridge.sqlite*"))


async def nothing_more(person: Person) -> None:
    """Nothing comes back to bob before what alice says now."""
    person.world.homeserver.say(person.room, ALICE, "the end")
    await person.world.settle()
    assert [body_of(item) for item in await heard(person.bob)] == ["the end"]


async def test_who_proves_both_sides_speaks_as_one_and_the_token_is_nowhere(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with linked(tmp_path) as person:
            world = person.world
            assert person.told()[-1] == f"From now on, what {URI} says in bridged rooms comes from you."
            (asked,) = [e for e in by(person.chat, CAROL) if TOKEN in e["content"]["body"]]
            assert by(person.chat, BOT, "m.room.redaction")[0]["redacts"] == asked["event_id"]
            await person.bob_says("as myself")
            await person.bob_says("!mimi unbridge")  # said at a provider, it commands nothing
            *_, one, two = person.events(CAROL)
            assert [event["content"]["body"] for event in (one, two)] == ["as myself", "!mimi unbridge"]
            assert person.events(GHOST_BOB) == [], "nor is the proof carried across"
            assert CAROL not in world.homeserver.names, "a profile of hers is not touched"
            # The homeserver pushes it again, to a bridge that was killed before it could note what it sent.
            database = world.bridge.queue._database
            for table, column in (("incoming", "event_id"), ("messages", "matrix_event_id")):
                database.run(f"DELETE FROM {table} WHERE {column} = ?", one["event_id"])  # noqa: S608
            database.run("UPDATE sayings SET event_id = NULL WHERE event_id = ?", one["event_id"])
            await push_events(world.bridge, [one])
            await world.settle()
            await nothing_more(person)
            # What waits in the queue with a token in it is sealed.
            world.homeserver.say(person.chat, CAROL, f"login {TOKEN}")
            await world.push()
            waiting = world.bridge.queue.next()
            assert waiting is not None
            assert TOKEN not in repr(waiting)
            await world.settle()
            assert person.told()[-1] == "I have the new token."
    assert TOKEN not in repr(logs)
    assert TOKEN.encode() not in written(tmp_path)


async def test_an_edit_in_matrix_of_what_the_other_account_said_is_a_message_there(tmp_path: Path) -> None:
    async with linked(tmp_path) as person:
        await person.bob_says("first")
        event_id = person.events(CAROL)[-1]["event_id"]
        new = {"msgtype": "m.text", "body": "second"}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        content = {**new, "m.new_content": new, "m.relates_to": relation}
        person.world.homeserver.emit(person.room, CAROL, "m.room.message", content)
        await person.world.settle()
        (got,) = await heard(person.bob)
        assert (body_of(got), got.content.replaces) == ("second", None)
        # And nobody reports having read what their other account said.
        await push_events(person.world.bridge, [], ephemeral=[unit(event_id, CAROL)])
        await person.world.bridge.receipts.report()
        await nothing_more(person)


async def test_who_reads_at_a_provider_has_read_as_themselves_and_that_does_not_come_back(
    tmp_path: Path,
) -> None:
    async with linked(tmp_path) as person:
        event_id = person.world.homeserver.say(person.room, ALICE, "read this")
        await person.world.settle()
        (got,) = await heard(person.bob)
        read = status_report(((got.message_id, MessageStatus.READ),), salt=SALT)
        await person.bob.send(person.world.room_id(), read)
        await person.world.settle()
        assert person.world.homeserver.receipts == [(person.room.room_id, CAROL, event_id)]
        await push_events(person.world.bridge, [], ephemeral=[unit(event_id, CAROL)])
        await person.world.bridge.receipts.report()
        await nothing_more(person)
