"""A MIMI provider that fetches a room goes with it to another hub, and fetches there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest
import trio
import trio.testing

from linearized.client import DecryptedMessage, Joined, Session, tidying
from linearized.mimi.messages import FanoutMessage
from linearized.protocol.identifiers import room_uri
from linearized.room.submissions import Rejected
from linearized.server import hub_chain, moves, run
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route
from linearized.server.providers import PREFIX
from linearized.server.providers.client import (
    CURSOR_HEADER,
    HUB_HEADER,
    ROOM_HEADER,
)
from linearized.server.pull_follower import PullFollower
from linearized.server.told_fetchers import fetchers, newcomers, read_fetchers
from linearized.store.base import Role
from tests.interop.hostile_hub import PATIENCE, delivered
from tests.interop.test_moved_followers import Followed, followed
from tests.server.support import Server, running_server
from tests.server.test_two_providers import bodies, received, say, signed_in

EVA = "@eva:e.example"
PUSHES = (f"{PREFIX}/notify/", f"{PREFIX}/hubMoved/")


class Asked:
    """In the place of ``PullFollower.moves``, which each of its requests sets: tells when that is."""

    def __init__(self) -> None:
        self.said = trio.Event()

    def __get__(self, follower: PullFollower, _: type[PullFollower]) -> bool:
        moves: bool = vars(follower)["moves"]
        return moves

    def __set__(self, follower: PullFollower, moves: bool) -> None:
        vars(follower)["moves"] = moves
        said, self.said = self.said, trio.Event()
        said.set()


ASKED = Asked()


@asynccontextmanager
async def fetched(directory: Path) -> AsyncIterator[Followed]:
    """As ``followed``, where d.example fetches from a.example."""
    async with followed(directory, pulls=True) as world:
        assert world.a.node.followers.pulls.is_shown_moves("d.example")
        yield world


async def has_read(session: Session, *wanted: str) -> None:
    """Wait until a client has read these messages, in this order and each once, and nothing else; all have
    read "before" by now, or may yet.
    """
    found: list[str] = []
    while len(found) < len(wanted):
        found += [body for body in bodies(await received(session, DecryptedMessage)) if body != "before"]
    assert found == list(wanted)


def messages(server: Server, room_id: str) -> list[bytes]:
    """The MLSMessages of a log, in order."""
    entries = server.node.store.entries(room_id, after=0, limit=1000)
    field = {"m.room.encrypted": "ciphertext", "m.mls.commit": "message", "m.mls.proposal": "message"}
    return [orjson.loads(row.pdu)["content"][field[row.type]] for row in entries if row.type in field]


def ended(world: Followed) -> bool:
    """Whether d.example has taken from the old hub all that it has for it."""
    (old,) = world.a.node.store.cursors(world.room_id, "d.example")
    return old.cursor == old.stop_seq


def pushed(world: Followed, *hubs: str) -> list[tuple[str, str, str, str]]:
    """What hubs sent to d.example of the room."""
    return [
        entry
        for entry in world.network.log
        if entry[0] in hubs and entry[1] == "d.example" and entry[3].startswith(PUSHES)
    ]


async def follow(server: Server, hub: str, **query: str) -> httpx.Response:
    """One request of a provider that fetches, by hand."""
    async with httpx.AsyncClient(transport=server.network.transport(server.name), timeout=60) as client:
        return await client.get(
            f"https://{hub}{PREFIX}/follow", params=query, headers={"From": f"mimi@{server.name}"}
        )


async def shown(world: Followed) -> httpx.Response:
    """Fetch by hand from a.example until it shows where the room went."""
    answer = await follow(world.d, "a.example", moves="true")
    while HUB_HEADER not in answer.headers:  # what came by a notification just before may come again
        answer = await follow(world.d, "a.example", moves="true", cursor=answer.headers[CURSOR_HEADER])
    return answer


async def registered(world: Followed, hub: Server) -> None:
    """Wait until d.example fetches from a hub."""
    with trio.fail_after(PATIENCE):
        while not hub.node.followers.pulls.is_shown_moves("d.example"):
            await ASKED.said.wait()


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "TIDY_SPREAD_MS", 0)
    monkeypatch.setattr(PullFollower, "moves", ASKED, raising=False)


async def test_all_three_systems_go_with_a_room_and_nothing_is_lost_or_comes_twice(tmp_path: Path) -> None:
    async with (
        fetched(tmp_path) as world,
        running_server(
            "e.example", tmp_path, world.network, peers=("a.example", "b.example", "c.example", "d.example")
        ) as e,
        signed_in(e, await e.user("eva")) as eva,
    ):
        await world.alice.groups.invite(world.room_id, [EVA])
        await received(eva, Joined)
        world.network.log.clear()
        began = len(messages(world.d, world.room_id))
        before = len(messages(world.a, world.room_id))
        for text in ("one", "two"):
            await say(world.alice, world.room_id, text)
        await world.hand_over()
        await world.d_follows("b.example")
        await registered(world, world.b)
        readers = (world.alice, world.bob, world.carol, world.dora, eva)
        for reader in readers[1:]:
            await has_read(reader, "one", "two")
        for number, sender in enumerate(readers):
            text = f"from {number}"
            await say(sender, world.room_id, text)
            for reader in readers:
                if reader is not sender:
                    await has_read(reader, text)
        # Byte for byte what the hub has, from where it was on, in order and without a gap.
        await delivered(world.b, world.room_id)
        assert messages(world.d, world.room_id)[began:] == messages(world.b, world.room_id)[before:]
        # The old hub told the new one that it fetches: nobody tries to send it anything.
        assert pushed(world, "a.example", "b.example") == []
        assert world.d.node.store.pulled_hubs() == ["b.example"]
        # The old hub has nothing for it any more, and the position that the new one keeps is the last.
        with trio.fail_after(PATIENCE):
            while not ended(world):
                await trio.testing.wait_all_tasks_blocked(0.01)


async def test_who_is_said_to_fetch_and_does_not_is_sent_it_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "PATIENCE_SECONDS", 0.2)
    async with fetched(tmp_path) as world:
        # It knows the new hub's keys, and cannot register with it.
        await world.d.node.keys.keys_for("b.example", list(world.b.node.identity.verify_keys))
        world.network.views["d.example", "b.example"] = None
        await world.hand_over()
        await world.d_follows("b.example")
        await say(world.bob, world.room_id, "still there?")
        await has_read(world.dora, "still there?")
        assert not world.b.node.followers.pulls.includes("d.example")


async def test_the_old_hubs_word_of_who_fetches_counts_for_newcomers_of_the_room_alone(
    tmp_path: Path,
) -> None:
    async with fetched(tmp_path) as world:
        state = world.a.node.rooms.state(world.room_id)
        assert fetchers(world.a.node, state) == ["d.example"]
        assert fetchers(world.b.node, state) == []
        told = frozenset({"a.example", "c.example", "d.example", "e.example"})
        assert newcomers(world.b.node, told, state) == ["d.example"]
        assert newcomers(world.b.node, frozenset({"c.example"}), state) == []
        # Here another room of the same hub would have to wait.
        assert newcomers(world.a.node, told, state) == []
        malformed: list[object] = [
            None,
            {},
            "d.example",
            ["no name!"],
            [5],
            [f"{n}.example" for n in range(1001)],
        ]
        for wrong in malformed:
            with pytest.raises(Rejected, match="pull_followers"):
                read_fetchers(wrong)


async def test_after_a_takeover_it_fetches_from_the_new_hub_once_its_operator_agrees(tmp_path: Path) -> None:
    async with fetched(tmp_path) as world:
        assert await world.b.node.audits.audit(world.room_id) is None
        assert await world.c.node.audits.audit(world.room_id) is None
        assert await world.b.node.copies.complete(world.room_id)
        # Nobody can send anything to d.example; it has to fetch.
        for hub in ("a.example", "b.example"):
            world.network.views[hub, "d.example"] = None
        world.network.down.add("a.example")
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=True)
        await world.ordered_by(world.b, "b.example", Role.HUB)
        await say(world.bob, world.room_id, "anybody there?")
        assert world.row(world.d).hub == "a.example"
        await world.d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        await world.d_follows("b.example")
        await has_read(world.dora, "anybody there?")
        await say(world.dora, world.room_id, "here")
        await has_read(world.bob, "here")


async def test_a_room_stays_until_a_provider_that_fetches_has_said_that_it_can_follow(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        assert await world.a.node.followers.pulls.add("d.example")
        with pytest.raises(Rejected, match=r"d\.example could not follow"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        for moves in ("false", "true"):
            await follow(world.d, "a.example", moves=moves)
        assert world.a.node.followers.pulls.is_shown_moves("d.example")
        await world.hand_over()
        assert (await shown(world)).headers[HUB_HEADER] == "b.example"


@dataclass
class Lying:
    """What d.example finds under a.example instead: it answers what it is told to, and then waits."""

    world: Followed
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    async def begin(self) -> None:
        """Take the place of a.example, which has said all it is to say."""
        path = f"{PREFIX}/follow"
        honest = [route for route in run.routes(self.world.a.node) if route.pattern != path]
        self.world.network.views["d.example", "a.example"] = build_app(
            [*honest, Route("GET", path, self._follow)]
        )
        # The request under way is the last one that a.example answers.
        await say(self.world.alice, self.world.room_id, "go on")
        await self._next(0)

    async def _follow(self, request: Request) -> Response:
        self.asked.append(dict(request.query))
        self.news.set()
        while not self.answers:
            self.news = trio.Event()
            await self.news.wait()
        return self.answers.pop(0)

    async def _next(self, after: int) -> dict[str, list[str]]:
        with trio.fail_after(PATIENCE):
            while len(self.asked) <= after:
                self.news = trio.Event()
                await self.news.wait()
        return self.asked[-1]

    async def say(
        self, body: bytes, cursor: str, *, room: str | None = None, hub: str | None = "b.example"
    ) -> dict[str, list[str]]:
        """Answer; what is asked for after that."""
        before = len(self.asked)
        headers = [(ROOM_HEADER, room or room_uri(self.world.room_id)), (CURSOR_HEADER, cursor)]
        headers += [(HUB_HEADER, hub)] if hub is not None else []
        self.answers.append(Response(body=body, headers=tuple(headers)))
        self.news.set()
        return await self._next(before)


async def test_a_forged_move_is_not_followed_and_the_true_one_ends_what_its_old_hub_may_say(
    tmp_path: Path,
) -> None:
    async with fetched(tmp_path) as world:
        lying = Lying(world)
        await lying.begin()
        await world.hand_over()
        create, transfer = hub_chain.hub_events_of(
            world.b.node.store, world.b.node.rooms.state(world.room_id)
        )
        signatures = transfer["signatures"]
        by_a, by_b = ({name: signatures[name]} for name in ("a.example", "b.example"))
        at = lying.asked[-1]["cursor"]
        other = "mimi://a.example/r/other"
        for events, room in (
            ([create, {**transfer, "signatures": by_b}], None),
            ([create, {**transfer, "signatures": by_a}], None),
            ([create, {**transfer, "content": {"after": create["room_id"]}}], None),
            ([create, {**transfer, "hub_server": "c.example"}], None),
            ([create, create], None),
            ([create], None),
            ([], None),
            ([create, transfer], other),
        ):
            asked = await lying.say(hub_chain.encode_shown(events), "forged", room=room)
            assert (asked["cursor"], asked["skip"]) == (at, [room or room_uri(world.room_id)])
            world.d.node.pulling.contacted("a.example")
        asked = await lying.say(b"{", "forged")
        assert asked["cursor"] == at
        assert world.row(world.d).hub == "a.example"
        assert not world.d.node.pulling.includes("b.example")

        world.d.node.pulling.contacted("a.example")
        shown = hub_chain.encode_shown([create, transfer])
        asked = await lying.say(shown, "moved")
        assert asked["cursor"] == ["moved"]
        assert world.row(world.d).hub == "b.example"
        # Once more, and whatever else it has for the room: acknowledged, so that it ends, and not taken.
        before = world.row(world.d).head_seq
        late = world.alice.device.group(world.room_id).encrypt(b"from a hub that is none")
        assert (await lying.say(shown, "again"))["cursor"] == ["again"]
        stray = FanoutMessage(timestamp=1, message=late).encode()
        assert (await lying.say(stray, "late", hub=None))["cursor"] == ["late"]
        assert world.row(world.d).head_seq == before
        assert world.row(world.d).hub == "b.example"


async def test_the_new_hub_alone_does_not_take_it_along(tmp_path: Path) -> None:
    async with fetched(tmp_path) as world:
        for hub in ("a.example", "b.example"):
            world.network.views[hub, "d.example"] = None
        world.network.views["d.example", "a.example"] = build_app([])  # it answers 404
        world.network.log.clear()
        await say(world.alice, world.room_id, "go on")  # ends a request that is under way
        with trio.fail_after(PATIENCE):
            await world.network.until(lambda origin, name, *_: (origin, name) == ("d.example", "a.example"))
        await world.hand_over()
        await world.d.node.pulling.begin("b.example")
        with trio.fail_after(PATIENCE):
            # The wire is looked at: it left the room out, having refused what came of it.
            await world.network.until(lambda *request: "skip=" in request[-1])
        assert world.row(world.d).hub == "a.example"
        del world.network.views["d.example", "a.example"]
        world.d.node.pulling.contacted("a.example")
        await world.d_follows("b.example")
        await say(world.bob, world.room_id, "welcome")
        await has_read(world.dora, "go on", "welcome")


async def test_strangers_and_stale_cursors_get_nothing_at_either_hub(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        assert await world.a.node.followers.pulls.add("d.example")
        await follow(world.d, "a.example", moves="true")
        await world.hand_over()
        moved = await shown(world)
        assert moved.headers[HUB_HEADER] == "b.example"
        # Again, as it was not acknowledged; a follower that does not go along is not shown it.
        assert (await follow(world.d, "a.example", moves="true")).content == moved.content
        assert (await follow(world.d, "a.example", moves="perhaps")).status_code == 400
        # A cursor counts at the hub that gave it, for whom it was given to.
        assert await world.b.node.followers.pulls.add("d.example")
        (row,) = world.b.node.store.cursors(world.room_id, "d.example")
        stale = await follow(world.d, "b.example", moves="true", cursor=moved.headers[CURSOR_HEADER])
        assert stale.status_code == 400
        assert world.b.node.store.cursors(world.room_id, "d.example") == [row]
        async with running_server("e.example", tmp_path, world.network, peers=("a.example",)) as e:
            for hub in ("a.example", "b.example", "c.example"):
                answer = await follow(e, hub, moves="true")
                assert (answer.status_code, b"b.example" in answer.content) == (403, False)
                answer = await follow(e, hub, cursor=moved.headers[CURSOR_HEADER])
                assert answer.status_code == 403
        done = await follow(world.d, "a.example", moves="true", cursor=moved.headers[CURSOR_HEADER])
        assert done.status_code == 410
