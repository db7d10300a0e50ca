"""Hundreds of submissions, many at a time, with people coming and going, in a room of five kinds of members:
a Linearized Matrix participant, a MIMI provider that is notified, one that fetches, a bridged homeserver and
a client of the hub.

``LINEARIZED_SOAK_SUBMISSIONS`` makes it longer (a thousand in ``make soak``).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linearized.client import DecryptedMessage, EpochChanged, Item, OwnMessage
from linearized.mimi.messages import FanoutMessage
from linearized.protocol.identifiers import user_domain
from linearized.room.admission import COMMIT, ENCRYPTED
from linearized.server.fanout import project_entry
from linearized.server.franking import with_frank
from linearized.server.taking import entry_of
from linearized.store.base import EntryRow
from tests.client.support import wall_clock
from tests.interop.everybody import (
    ALL,
    HUB,
    LENA,
    LINEAR,
    LINUS,
    NAMES,
    PULL,
    PUSH,
    Everybody,
    everybody,
)
from tests.simulation.inhabitants import inhabited

SUBMISSIONS = int(os.environ.get("LINEARIZED_SOAK_SUBMISSIONS", "400"))


def copy(world: Everybody, name: str) -> list[EntryRow]:
    return world.servers[name].node.store.entries(world.room_id, after=0, limit=ALL)


def fanned_out(world: Everybody, log: list[EntryRow]) -> list[bytes]:
    """What a MIMI follower keeps of the hub's entries."""
    found: list[bytes] = []
    for entry in log:
        projected = project_entry(entry, frank_of=world.servers[HUB].node.franking.of_entry)
        if projected is not None:
            fanned = FanoutMessage.decode(projected)
            _, _, raw = entry_of(world.room_id, HUB, timestamp=fanned.timestamp, message=fanned.message)
            found.append(with_frank(raw, fanned.frank))
    return found


def logs_are_one(world: Everybody) -> None:
    """Five logs. Those of the providers byte by byte, from where each came in; that of the hub's client, of
    the bridge and of the participant's client as the commits and messages each was given, in their order.
    """
    log = world.hub_log()
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    pushed, pulled = copy(world, PUSH), copy(world, PULL)
    for name, taken in ((PUSH, pushed), (PULL, pulled)):
        assert [entry.pdu for entry in taken] == fanned_out(world, log[world.began[name] :]), name
    later = max(world.began[PUSH], world.began[PULL])
    both = len(fanned_out(world, log[later:]))
    assert [entry.pdu for entry in pushed[-both:]] == [entry.pdu for entry in pulled[-both:]]
    tail = log[world.began[LINEAR] :]
    assert [entry.pdu for entry in copy(world, LINEAR)[-len(tail) :]] == [entry.pdu for entry in tail]
    for user_id in (LENA, world.bot_id, LINUS):
        # Of a commit of its own a client may have heard as the answer to it.
        own = {entry.event_id for entry in log if entry.type == COMMIT and entry.sender == user_id}
        expected = [
            entry.event_id for entry in log[world.began[user_id] :] if entry.type in (COMMIT, ENCRYPTED)
        ]
        given = [item.event_id for item in world.items[user_id] if of_the_group(item)]
        assert [event_id for event_id in given if event_id not in own] == [
            event_id for event_id in expected if event_id not in own
        ], user_id


def of_the_group(item: Item) -> bool:
    return isinstance(item, DecryptedMessage | OwnMessage | EpochChanged)


def epochs_are_agreed(world: Everybody) -> None:
    """Every epoch there was since all had come: everybody who was in it has the same secrets of it."""
    first = min(world.epochs)
    assert sorted(world.epochs) == list(range(first, world.epoch() + 1))
    for epoch, seen in world.epochs.items():
        assert {*world.people, world.bot_id} <= seen.keys(), epoch
        assert len(set(seen.values())) == 1, epoch
    # And no two epochs have the same.
    assert len({value for seen in world.epochs.values() for value in seen.values()}) == len(world.epochs)


def messages_were_read_by_exactly_their_epochs_members(world: Everybody) -> None:
    """Whoever had a leaf when a message came into the log read it, once, in the order of the log and in its
    epoch; nobody else read it. Who that is says the log, walked by itself.
    """
    log = world.hub_log()
    texts = {item.event_id: text for text, item in world.heard(LENA)}
    order = [(texts[entry.event_id], entry) for entry in log if entry.event_id in texts]
    assert sorted(text for text, _ in order) == sorted(world.said)
    there = inhabited(world.room_id, log, version=world.version, clock=wall_clock)
    for user_id in {*world.people, *world.guests, world.bot_id}:
        expected = [(text, entry) for text, entry in order if user_id in there[entry.event_id].values()]
        heard = world.heard(user_id)
        assert [text for text, _ in heard] == [text for text, _ in expected], user_id
        for (text, item), (_, entry) in zip(heard, expected, strict=True):
            if isinstance(item, DecryptedMessage):
                assert item.epoch == entry.epoch, (user_id, text)
            else:
                assert world.said[text] == user_id


def the_homeserver_has_them_once_and_in_order(world: Everybody) -> None:
    """What came from the room stands in the homeserver's in the log's order, and what came from there stands
    in the log in the homeserver's.
    """
    shown = [
        event["content"]["body"]
        for event in world.matrix.timeline
        if event["type"] == "m.room.message" and event["content"]["body"] in world.said
    ]
    logged = [text for text, _ in world.heard(LENA)]
    assert sorted(shown) == sorted(logged)
    for ours in (True, False):
        assert [text for text in shown if (world.said[text] == world.bot_id) is ours] == [
            text for text in logged if (world.said[text] == world.bot_id) is ours
        ]


async def test_five_kinds_of_members_agree_on_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with everybody(tmp_path, monkeypatch, seed=7) as world:
        done = 0
        while done < SUBMISSIONS:
            done += await world.together(done)
        await world.settled()
        logs_are_one(world)
        epochs_are_agreed(world)
        messages_were_read_by_exactly_their_epochs_members(world)
        the_homeserver_has_them_once_and_in_order(world)
        # It was all that it says it is.
        assert len(world.said) + world.changes.total() == done
        assert world.changes["guest"] > done // 50
        assert world.changes["keys"] > done // 100
        assert {user_domain(user) for user in world.people} == set(NAMES)
        assert all(world.items[guest] for guest in world.guests)
        protocols = {
            row.provider: row.protocol for row in world.servers[HUB].node.store.followers(world.room_id)
        }
        assert protocols == {PUSH: "mimi", PULL: "mimi", LINEAR: "linearized"}
        assert world.servers[HUB].node.store.pull_followers() == [PULL]
