"""What a person meets on the page: rooms, a timeline that is checked, what comes live, and who lies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from linearized.client import ALGORITHM, Session
from linearized.config import Address
from linearized.server import run
from linearized.server.app import App, build_app
from linearized.server.http import Receive, Scope, Send
from linearized.server.listener import Binding, serve_bindings
from linearized.store.base import FollowerRow, RoomAppend
from tests.client.support import message
from tests.client.test_real_server import Club, open_club
from tests.server.support import PASSWORD, Server
from tests.web.browser import Browser, open_browser

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
ALL_VERIFIED = "document.querySelector('#proof').dataset.state === 'verified'"


@dataclass
class Liar:
    """A server that tells some answers otherwise than it has them."""

    app: App
    lies: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(event: dict[str, Any]) -> None:
            if event["type"] == "http.response.body":
                for truth, lie in self.lies:
                    assert len(truth) == len(lie)
                    event = {**event, "body": event["body"].replace(truth, lie)}
            await send(event)

        aloud = {name: value for name, value in scope.items() if name != "send_now"}  # which would pass us by
        await self.app(aloud, receive, told)


@dataclass
class World:
    club: Club
    server: Server
    alice: Session
    room_id: str
    secret_id: str
    url: str
    liar: Liar
    browser: Browser

    async def say(self, body: str) -> None:
        content = {"msgtype": "m.text", "body": body}
        await self.alice.api.send_event(self.room_id, "m.room.message", content, txn_id=body)

    def head(self, room_id: str) -> int:
        row = self.server.node.store.room(room_id)
        assert row is not None
        return row.head_seq

    async def sign_in(self, *, user: str = "alice", password: str = PASSWORD) -> None:
        await self.browser.open(self.url)
        await self.browser.until("document.querySelector('#user') !== null")
        await self.browser.write("#user", user)
        await self.browser.write("#password", password)
        await self.browser.click("#signin-form button")

    async def open_room(self, room_id: str) -> None:
        selector = f"button[data-room='{room_id}']"
        await self.browser.until("document.querySelector(arguments[0]) !== null", selector)
        await self.browser.click(selector)

    async def states(self) -> dict[str, list[int]]:
        """The numbers of the entries shown, by how they are marked."""
        found = await self.browser.run(
            "return [...document.querySelectorAll('.entry')].map(e => [e.dataset.state, +e.dataset.seq])"
        )
        states: dict[str, list[int]] = {}
        for state, seq in found:
            states.setdefault(state, []).append(seq)
        return states

    async def shown(self) -> list[str]:
        found = await self.browser.run(
            "return [...document.querySelectorAll('.entry:not([hidden]) .said')].map(e => e.textContent)"
        )
        return [str(text) for text in found]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with made_world(tmp_path) as found:
        yield found


@asynccontextmanager
async def made_world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example", operators=("@root:a.example",))
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await alice.api.create_room(
            room_version="I.1", name="The garden", invite=[bob.device.owner.user_id]
        )
        await bob.api.join(room_id)
        for number, body in enumerate(
            ("Who waters the beans?", "I do, on Friday", "Pay Bob 10 for the hose")
        ):
            speaker = (alice, bob)[number % 2]
            content = {"msgtype": "m.text", "body": body}
            await speaker.api.send_event(room_id, "m.room.message", content, txn_id=str(number))
        picture = await bob.api.upload_media(PIXEL, content_type="image/png", filename="beans.png")
        content = {"msgtype": "m.image", "body": "beans.png", "url": picture}
        await bob.api.send_event(room_id, "m.room.message", content, txn_id="picture")
        secret_id = await alice.api.create_room(
            creation_content={"encryption": {"algorithm": ALGORITHM}}, name="Under four eyes"
        )
        await alice.groups.create(secret_id)
        await alice.groups.invite(secret_id, [bob.device.owner.user_id])
        await alice.send(secret_id, message("nobody else reads this"))
        liar = Liar(build_app(run.plain_routes(server.node)))
        binding, stop = Binding(address=Address(host="127.0.0.1", port=0), app=liar), trio.Event()
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(partial(serve_bindings, [binding], stop=stop, grace_seconds=5))
            async with open_browser(tmp_path / "profile") as browser:
                await browser.size(1280, 800)
                yield World(club, server, alice, room_id, secret_id, f"http://{address}/", liar, browser)
            stop.set()


async def test_a_person_signs_in_and_reads_a_room_in_which_everything_is_verified(world: World) -> None:
    w = world
    await w.sign_in(password="wrong")
    refusal = "document.querySelector('#signin-error').textContent"
    assert "password" in (await w.browser.until(refusal)).lower()
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until(ALL_VERIFIED)
    assert await w.states() == {"verified": list(range(1, w.head(w.room_id) + 1))}
    shown = await w.shown()
    assert shown[0] == "created the room, version I.1"
    assert "I do, on Friday" in shown
    first = await w.browser.run("return document.querySelector('.entry .head').textContent")
    assert first.startswith("#1@alice:a.example")
    assert await w.browser.run("return document.querySelector('h1#room-title').textContent") == "The garden"
    members = await w.browser.run("return document.querySelector('#members').textContent")
    assert members == "a.example@alice:a.example@bob:a.example"
    refusals = [line for line in await w.browser.complaints() if "403" not in line]
    assert refusals == [], "the browser refuses nothing of the page"


async def test_an_entry_that_was_changed_is_shown_as_not_verified(world: World) -> None:
    w = world
    w.liar.lies.append((b"Pay Bob 10 for", b"Pay Bob 99 for"))
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until("document.querySelector('#proof').dataset.state === 'failed'")
    states = await w.states()
    (false,) = states["failed"]
    assert states["verified"] == [seq for seq in range(1, w.head(w.room_id) + 1) if seq != false]
    entry = "document.querySelector('.entry[data-state=failed]')"
    text = await w.browser.run(f"return {entry}.textContent")
    assert "Pay Bob 99" in text
    assert "not verified" in text
    assert "its content was changed" in text
    assert "1 of" in await w.browser.run("return document.querySelector('#proof').textContent")


async def test_a_log_whose_end_the_hub_does_not_sign_for_is_not_verified(world: World) -> None:
    w = world
    answer = await w.alice.api.checkpoint(w.room_id, size=w.head(w.room_id))
    root = answer.note.splitlines()[2]
    w.liar.lies.append((root.encode(), root[:4].swapcase().encode() + root[4:].encode()))
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until("document.querySelector('#proof').dataset.state === 'failed'")
    states = await w.states()
    assert states["failed"] == [w.head(w.room_id)]
    assert "verified" not in states
    assert "signature is wrong" in await w.browser.run("return document.querySelector('#proof').textContent")


async def test_what_is_said_appears_and_is_verified_and_what_is_changed_on_the_way_is_not(
    world: World,
) -> None:
    w = world
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until(ALL_VERIFIED)
    await w.browser.until("document.querySelector('#live').dataset.state === 'live'")
    head = w.head(w.room_id)
    await w.say("It rains")
    newest = "document.querySelector('.entry:last-child')"
    await w.browser.until(f"{newest}.dataset.seq === '{head + 1}' && {newest}.dataset.state === 'verified'")
    assert (await w.shown())[-1] == "It rains"
    said = await w.browser.run("return document.querySelector('#announce').textContent")
    assert said == f"Entry {head + 1}, @alice:a.example: It rains"
    await w.alice.api.send_state(w.room_id, "m.room.name", "", {})
    await w.browser.until(f"{newest}.dataset.seq === '{head + 2}' && {newest}.dataset.state === 'verified'")
    assert (await w.shown())[-1] == "took the room's name away"
    w.liar.lies.append((b"no need to water", b"do water at once"))
    await w.say("no need to water")
    await w.browser.until(f"{newest}.dataset.seq === '{head + 3}' && {newest}.dataset.state === 'failed'")
    assert (await w.shown())[-1] == "do water at once"


async def test_a_member_that_leaves_sees_the_stream_end(world: World) -> None:
    w = world
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until("document.querySelector('#live').dataset.state === 'live'")
    await w.alice.api.leave(w.room_id)
    await w.browser.until("document.querySelector('#live').dataset.state === 'over'")


async def test_an_encrypted_room_shows_its_epochs(world: World) -> None:
    w = world
    await w.sign_in()
    await w.open_room(w.secret_id)
    await w.browser.until(ALL_VERIFIED)
    epochs = await w.browser.run("return [...document.querySelectorAll('.epoch')].map(e => e.textContent)")
    assert epochs == ["epoch 0 → 1", "epoch 1 → 2", "epoch 2"]
    assert "nobody else reads this" not in await w.browser.run("return document.body.textContent")


async def test_a_picture_comes_when_it_is_asked_for(world: World) -> None:
    w = world
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until(ALL_VERIFIED)
    await w.browser.run("document.querySelector('.entry > button').click()")
    await w.browser.until("document.querySelector('.entry img')?.naturalWidth === 1")


async def test_a_search_leaves_what_matches(world: World) -> None:
    w = world
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until(ALL_VERIFIED)
    await w.browser.write("#search", "FRIDAY")
    assert await w.shown() == ["I do, on Friday"]
    assert await w.browser.run("return document.querySelector('.said mark').textContent") == "Friday"
    await w.browser.write("#search", " and Saturday")
    assert await w.shown() == []
    assert await w.browser.run("return document.querySelector('#empty').hidden") is False


async def test_earlier_entries_are_loaded_and_verified(world: World) -> None:
    w = world
    for number in range(130):
        await w.say(f"row {number}")
    await w.sign_in()
    await w.open_room(w.room_id)
    await w.browser.until(ALL_VERIFIED)
    head = w.head(w.room_id)
    assert await w.states() == {"verified": list(range(head - 99, head + 1))}
    await w.browser.run("document.querySelector('#earlier').click()")
    await w.browser.until(
        "document.querySelectorAll('.entry[data-state=verified]').length === arguments[0]", head
    )
    assert await w.states() == {"verified": list(range(1, head + 1))}
    assert await w.browser.run("return document.querySelector('#earlier').hidden") is True


async def test_everything_is_reached_by_the_keyboard(world: World) -> None:
    w = world
    await w.browser.open(w.url)
    await w.browser.until(
        "document.activeElement.id === 'user' || document.querySelector('#user').focus() || true"
    )
    await w.browser.press(*"alice", "Tab", *PASSWORD, "Enter")
    await w.browser.until("document.activeElement.matches('#rooms button')")
    while "garden" not in await w.browser.focus():
        await w.browser.press("Tab")
    await w.browser.press("Enter")
    await w.browser.until(ALL_VERIFIED)
    assert await w.browser.focus() == "main"
    await w.browser.press("Tab")
    assert await w.browser.focus() == "search"
    await w.browser.press(*"Friday")
    assert await w.shown() == ["I do, on Friday"]
    await w.browser.press("Tab")
    assert await w.browser.focus() == "Signed event"
    await w.browser.press("Enter")
    await w.browser.until(
        "document.querySelector('.entry details[open] pre')?.textContent.includes('prev_events')"
    )
    while await w.browser.focus() != "signout":
        await w.browser.press("Tab", shift=True)
    await w.browser.press("Enter")
    await w.browser.until("document.activeElement.id === 'user'")
    assert await w.browser.run("return sessionStorage.length") == 0


TABLE = """
    const rows = [...document.querySelectorAll(arguments[0] + ' tr')];
    return [document.querySelector(arguments[0] + ' caption').textContent,
            ...rows.map(row => [...row.cells].map(cell => cell.textContent).join(' | '))]
"""


async def test_an_operator_sees_followers_and_groups_of_rooms_they_are_not_in(world: World) -> None:
    w = world
    await w.server.user("root")
    away = FollowerRow(room_id=w.secret_id, provider="b.example", protocol="mimi", cursor=2)
    await w.server.node.store.append(RoomAppend(room_id=w.secret_id, followers=(away,)))
    head = w.head(w.secret_id)
    await w.sign_in(user="root")
    listed = "[...document.querySelectorAll('#operated-rooms button small')].map(e => e.textContent)"
    await w.browser.until(f"{listed}.length === 2")
    assert await w.browser.run(f"return {listed}") == [f"{head - 2} entries behind", "no followers"]
    # By the keyboard alone, as everything.
    await w.browser.until("document.activeElement.matches('#operated-rooms button')")
    await w.browser.press("Enter")
    await w.browser.until("document.querySelector('#clients table') !== null")
    assert await w.browser.focus() == "main"
    caption, heads, follower = await w.browser.run(TABLE, "#followers")
    assert caption == f"Followers, to {head}"
    assert heads == "Provider | Protocol | Has taken | Lacks | State"
    assert follower.startswith(f"b.example | MIMI | 2 | {head - 2} | behind since ")
    assert await w.browser.run(TABLE, "#clients") == [
        "MLS clients in epoch 2: 2",
        "Leaf | User | Client",
        "0 | @alice:a.example | DEV",
        "1 | @bob:a.example | DEV",
    ]
    said = await w.browser.run("return document.querySelector('#announce').textContent")
    assert said == f"1 follower, to entry {head}"
    scopes = "[...document.querySelectorAll('#followers th')].map(e => e.scope)"
    assert await w.browser.run(f"return {scopes}") == ["col"] * 5 + ["row"]
    await w.server.node.store.move_cursors([replace(away, cursor=head)])
    await w.browser.press("Tab")
    assert await w.browser.focus() == "refresh"
    await w.browser.press("Enter")
    await w.browser.until("document.querySelector('#followers td:last-child').textContent === 'up to date'")
    await w.browser.click(f"button[data-operated='{w.room_id}']")
    await w.browser.until("document.querySelector('#clients p') !== null")
    text = await w.browser.run("return document.querySelector('#operator').textContent")
    assert "Nobody follows this room." in text
    assert "no MLS group" in text
    await w.browser.size(390, 844)
    assert await w.browser.run("return document.documentElement.scrollWidth") == 390


async def test_a_member_sees_the_group_of_their_room_and_no_followers(world: World) -> None:
    w = world
    await w.sign_in()
    await w.open_room(w.secret_id)
    await w.browser.until("document.querySelector('#group table') !== null")
    assert (await w.browser.run(TABLE, "#group"))[2:] == [
        "0 | @alice:a.example | DEV",
        "1 | @bob:a.example | DEV",
    ]
    assert await w.browser.run("return document.querySelector('#operated').checkVisibility()") is False


async def test_on_a_phone_there_is_one_thing_at_a_time(world: World) -> None:
    w = world
    await w.browser.size(390, 844)
    await w.sign_in()
    await w.open_room(w.secret_id)
    await w.browser.until("document.querySelector('#group table') !== null")
    seen = "document.querySelector(arguments[0]).checkVisibility()"
    assert await w.browser.run(f"return {seen}", ".rooms") is False
    assert await w.browser.run("return document.documentElement.scrollWidth") == 390
    visible = "document.querySelector('#group').checkVisibility()"
    expanded = "document.querySelector('#details').ariaExpanded"
    assert await w.browser.run(f"return [{visible}, {expanded}]") == [False, "false"]
    await w.browser.click("#details")
    assert await w.browser.run(f"return [{visible}, {expanded}]") == [True, "true"]
    assert await w.browser.focus() == "close"
    assert await w.browser.run("return document.documentElement.scrollWidth") == 390
    await w.browser.press("Escape")
    assert await w.browser.run(f"return [{visible}, {expanded}]") == [False, "false"]
    assert await w.browser.focus() == "details"
    await w.browser.press("Enter", "Enter")  # open, and close by the button that has the focus then
    assert await w.browser.run(f"return {visible}") is False
    await w.browser.click("#back")
    assert await w.browser.run(f"return {seen}", ".rooms") is True
    assert await w.browser.run(f"return {seen}", "#main") is False
    assert await w.browser.run("return document.title") == "linearized"
    await w.browser.size(1280, 800)
    await w.open_room(w.secret_id)
    await w.browser.until(f"{visible} && document.querySelector('#group table') !== null")
    assert await w.browser.run("return document.querySelector('#details').checkVisibility()") is False


async def test_a_session_outlasts_a_server_that_cannot_be_asked(world: World) -> None:
    w = world
    await w.sign_in()
    await w.browser.until("document.querySelector('#rooms button[data-room]') !== null")
    w.liar.lies.append((b'{"joined_rooms"', b'["joined_rooms"'))  # which nobody can read
    await w.browser.open(w.url)
    await w.browser.until("document.querySelector('#retry') !== null")
    assert await w.browser.run("return sessionStorage.length") == 1
    alert = "document.querySelector('#rooms [role=alert]').textContent"
    assert (await w.browser.run(f"return {alert}")).startswith("The rooms cannot be shown: ")
    w.liar.lies.clear()
    await w.browser.click("#retry")
    await w.browser.until("document.querySelector('#rooms button[data-room]') !== null")


async def test_a_session_that_was_ended_elsewhere_leads_back_to_the_door(world: World) -> None:
    w = world
    await w.sign_in()
    await w.browser.until("document.querySelector('#rooms button') !== null")
    for device in w.server.node.store.devices("@alice:a.example"):
        await w.server.node.store.delete_device("@alice:a.example", device.device_id)
    await w.open_room(w.room_id)
    await w.browser.until("document.body.dataset.view === 'signin'")
