"""What the signed endpoints beside the draft's refuse, by table: proofs, transfers, takeovers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.room.submissions import LocalEvent
from linearized.server.federation import routes
from linearized.server.http import Router
from linearized.server.rows import entry_row
from linearized.store.base import Role, RoomAppend, RoomRow

from .schemas import check
from .support import ALICE, BOB, DEV, Foreign, World, room, world
from .test_refusals import NO_BODIES, Endpoint, raw, sign, snapshot, unproven

PREFIX = "/_linearized/v1/rooms"
THEIRS = "!theirs:b.example"  # b.example orders it, and we take part
UNKNOWN = "!unknown:a.example"
EVENT = "$" + "A" * 43
TAKEOVER = {"sender": BOB, "after": EVENT, "takeover": {"hub": "b.example", "size": 2, "root": "AAAA"}}


@dataclass(frozen=True)
class Ours:
    """One endpoint of a room, and how to ask it properly."""

    method: str
    rest: str
    body: JsonObject | None = None
    of_hub: bool = False  # asked by the room's hub, of who takes part in it

    def path(self, room_id: str) -> str:
        return f"{PREFIX}/{quote(room_id, safe='')}/{self.rest}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.method, "v1", lambda _r, _u: self.rest)


ENDPOINTS = {
    "checkpoint": Ours("GET", "checkpoint"),
    "consistency": Ours("GET", "proof/consistency?from=1&to=2"),
    "inclusion": Ours("GET", "proof/inclusion?seq=1"),
    "log": Ours("GET", "log?after=0"),
    "tail": Ours("GET", f"tail?after={EVENT}"),
    "prepare": Ours("POST", "transfer/prepare", {}, of_hub=True),
    "accept": Ours("POST", "transfer/accept", {"after": EVENT, "size": 2}, of_hub=True),
    "takeover": Ours("POST", "takeover", TAKEOVER, of_hub=True),
}
WITH_BODY = [name for name, ours in ENDPOINTS.items() if ours.body is not None]
OF_OUR_ROOMS = [name for name, ours in ENDPOINTS.items() if not ours.of_hub]


async def joined(w: World) -> str:
    """A room of ours that b.example is in."""
    room_id = await room(w.server, version=DEV)
    await w.foreign.join(room_id, version=DEV)
    return room_id


async def theirs(w: World) -> None:
    """A room of b.example's with Bob and Alice in it, as we have it."""
    made: list[str] = []
    entries = []
    for kind, sender, state_key, content in (
        ("m.room.create", BOB, "", {"room_version": DEV.name}),
        ("m.room.member", BOB, BOB, {"membership": "join"}),
    ):
        event = build_event(
            identity=w.foreign.identity,
            version=DEV,
            room_id=THEIRS,
            type=kind,
            sender=sender,
            content=content,
            origin_server_ts=1,
            auth_events=list(made),
            prev_events=made[-1:],
            state_key=state_key,
        )
        made.append(event.event_id)
        entries.append(entry_row(event, seq=len(made), epoch=None))
    row = RoomRow(
        room_id=THEIRS, version=DEV.name, role=Role.PARTICIPANT, hub="b.example", head_seq=0, epoch=None
    )
    await w.server.node.store.append(RoomAppend(room_id=THEIRS, room=row, entries=tuple(entries)))


async def target(w: World, ours: Ours) -> str:
    """A room about which b.example may ask."""
    if ours.of_hub:
        await theirs(w)
        return THEIRS
    return await joined(w)


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_request_that_does_not_prove_its_origin_is_refused(tmp_path: Path, name: str) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        path = ours.path(await target(w, ours))
        content = b"" if ours.body is None else canonical_json(ours.body)
        before = snapshot(w)
        for how, authorization in unproven(w, ours.endpoint, path, ours.body or {}).items():
            status, answer = await raw(w, ours.endpoint, path, content, authorization=authorization)
            assert (status, answer["errcode"]) == (401, "M_FORBIDDEN"), how
            check("error", answer)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", WITH_BODY)
async def test_a_body_that_is_no_json_object_is_refused(tmp_path: Path, name: str) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        path = ours.path(await target(w, ours))
        before = snapshot(w)
        for content, expected, errcode in NO_BODIES:
            authorization = sign(w, ours.endpoint, path, {})
            status, answer = await raw(w, ours.endpoint, path, content, authorization=authorization)
            assert status == expected, content[:20]
            assert errcode in {None, answer["errcode"]}, content[:20]
            check("error", answer)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", WITH_BODY)
async def test_fields_of_the_wrong_type_are_refused(tmp_path: Path, name: str) -> None:
    """Nobody here may take a room over or has agreed to that, so nothing is accepted either way."""
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        path = ours.path(await target(w, ours))
        before = snapshot(w)
        good = {**(ours.body or {}), "key_package_routes": {}}
        for field in good:
            for value in (7, -1, [7], {"7": 7}, "7", None, True):
                answer = await w.foreign.ask("POST", path, {**good, field: value})
                assert answer.status in {400, 403}, (field, value, answer)
                check("error", answer.body)
        assert snapshot(w) == before


@pytest.mark.parametrize(
    ("name", "query", "status"),
    [
        ("checkpoint", "checkpoint?size=x", 400),
        ("checkpoint", "checkpoint?size=-1", 400),
        ("checkpoint", f"checkpoint?size={10**40}", 400),
        ("consistency", "proof/consistency?from=1", 400),
        ("consistency", "proof/consistency?from=1&to=x", 400),
        ("inclusion", "proof/inclusion", 400),
        ("inclusion", "proof/inclusion?seq=x", 400),
        ("inclusion", f"proof/inclusion?event_id={EVENT}", 404),
        ("log", "log", 404),
        ("log", "log?after=x", 404),
        ("tail", "tail", 400),
        ("tail", "tail?after=x", 404),
        ("tail", f"tail?after={EVENT}", 404),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    tmp_path: Path, name: str, query: str, status: int
) -> None:
    assert query.startswith(ENDPOINTS[name].rest.partition("?")[0])
    async with world(tmp_path) as w:
        room_id = await joined(w)
        before = snapshot(w)
        answer = await w.foreign.ask("GET", f"{PREFIX}/{quote(room_id, safe='')}/{query}")
        assert answer.status == status, answer
        check("error", answer.body)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_trailing_slashes_and_other_methods_are_unrecognized(tmp_path: Path, name: str) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        bare, _, query = ours.path(UNKNOWN).partition("?")
        for unknown in (f"{bare}/", f"/{bare}", f"{bare}/more"):
            answer = await w.foreign.ask(ours.method, f"{unknown}?{query}")
            assert (answer.status, answer.errcode) == (404, "M_UNRECOGNIZED"), unknown
        answer = await w.foreign.ask("DELETE", bare)
        assert (answer.status, answer.errcode) == (405, "M_UNRECOGNIZED")


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_for_who_is_not_in_it_a_room_does_not_exist(tmp_path: Path, name: str) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        stranger = Foreign("c.example", w.network)
        rooms = [await target(w, ours), UNKNOWN, "nonsense"]
        before = snapshot(w)
        for room_id in rooms:
            answer = await stranger.ask(ours.method, ours.path(room_id), ours.body)
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND"), room_id
            check("error", answer.body)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", WITH_BODY)
async def test_of_a_room_that_we_order_nobody_asks_us_what_a_hub_asks(tmp_path: Path, name: str) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        path = ours.path(await joined(w))
        before = snapshot(w)
        answer = await w.foreign.ask(ours.method, path, ours.body)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
        assert snapshot(w) == before


@pytest.mark.parametrize("name", OF_OUR_ROOMS)
async def test_a_server_that_the_rooms_acl_denies_is_refused(tmp_path: Path, name: str) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        room_id = await joined(w)
        acl = LocalEvent(
            sender=ALICE,
            type="m.room.server_acl",
            state_key="",
            content={"allow": ["*"], "deny": ["b.example"]},
        )
        await w.server.node.rooms.send(room_id, acl)
        before = snapshot(w)
        answer = await w.foreign.ask(ours.method, ours.path(room_id), ours.body)
        assert answer.status in {403, 404}
        assert snapshot(w)[:3] == before[:3]


async def test_the_table_has_every_signed_endpoint_of_a_room(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        served = {
            (route.method, route.pattern)
            for route in routes(w.server.node)
            if route.pattern.startswith(PREFIX)
        }
        router = Router(routes(w.server.node))
        tested = set()
        for ours in ENDPOINTS.values():
            route, _ = router.match(ours.method, ours.path(UNKNOWN).partition("?")[0])
            tested.add((route.method, route.pattern))
        assert tested == served


@pytest.mark.parametrize("name", ["prepare", "accept"])
async def test_a_hub_has_us_copy_nothing_of_a_room_that_no_user_of_ours_may_take(
    tmp_path: Path, name: str
) -> None:
    ours = ENDPOINTS[name]
    async with world(tmp_path) as w:
        await theirs(w)
        body = {**(ours.body or {}), "key_package_routes": {"AAAA": "c.example"}}
        answer = await w.foreign.ask(ours.method, ours.path(THEIRS), body)
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
        asked = [path for origin, _, _, path in w.network.log if origin == "a.example"]
        assert asked == ["/_matrix/key/v2/server"]
        store = w.server.node.store
        assert store.staged_head(THEIRS) == 0
        assert store.room_routes(THEIRS, now_ms=0, limit=9) == {}
