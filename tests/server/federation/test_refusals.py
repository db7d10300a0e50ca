"""What every endpoint of the server-server API refuses, by table: with the draft's code, changing nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.room.submissions import LocalEvent
from linearized.server.federation import routes
from linearized.server.http import MAX_BODY_BYTES, Request, Router
from linearized.server.xmatrix import sign_request
from linearized.store.base import Role, RoomAppend, RoomRow

from .schemas import check
from .support import ALICE, BOB, FINAL, UNSTABLE, Foreign, World, room, world

THEIRS = "!theirs:b.example"  # a room that another server orders
UNKNOWN = "!unknown:a.example"


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: how to ask it properly about a room, in the name of a user."""

    method: str
    version: str
    path: Callable[[str, str], str]
    body: Callable[[World, str], JsonObject] | None = None
    of_a_room: bool = True  # refuses other hubs' rooms, unknown ones, and those whose ACL denies the caller
    membership: bool = False  # for servers outside the room; the others are for those inside

    def paths(self, room_id: str, user_id: str = BOB) -> list[str]:
        rest = self.path(room_id, user_id)
        return [f"{FINAL}/{self.version}/{rest}", f"{UNSTABLE}/{rest}"]


def event_id(w: World, room_id: str) -> str:
    entries = w.server.node.store.entries(room_id, after=0, limit=1)
    return entries[0].event_id if entries else "$nothing"


def change(membership: str) -> Callable[[World, str], JsonObject]:
    return lambda w, room_id: w.foreign.member(room_id, BOB, membership)


def invite(w: World, room_id: str) -> JsonObject:
    lpdu = w.foreign.lpdu(
        room_id, BOB, "m.room.member", {"membership": "invite"}, state_key="@carol:c.example"
    )
    return {"event": lpdu, "room_version": "I.1", "invite_room_state": []}


ENDPOINTS = {
    "send": Endpoint("PUT", "v2", lambda _r, _u: "send/1", lambda _w, _r: {"pdus": []}, of_a_room=False),
    "event": Endpoint("GET", "v2", lambda _r, _u: "event/$none", of_a_room=False),
    "state": Endpoint("GET", "v1", lambda r, _u: f"state/{r}?event_id=$none"),
    "state_ids": Endpoint("GET", "v1", lambda r, _u: f"state_ids/{r}?event_id=$none"),
    "backfill": Endpoint("GET", "v2", lambda r, _u: f"backfill/{r}?v=$none&limit=1"),
    "invite": Endpoint("POST", "v3", lambda _r, _u: "invite/1", invite, of_a_room=False),
    "make_join": Endpoint("GET", "v1", lambda r, u: f"make_join/{r}/{u}?ver=I.1", membership=True),
    "send_join": Endpoint("POST", "v3", lambda _r, _u: "send_join/1", change("join"), membership=True),
    "make_leave": Endpoint("GET", "v1", lambda r, u: f"make_leave/{r}/{u}", membership=True),
    "send_leave": Endpoint("POST", "v3", lambda _r, _u: "send_leave/1", change("leave"), membership=True),
    "make_knock": Endpoint("GET", "v1", lambda r, u: f"make_knock/{r}/{u}?ver=I.1", membership=True),
    "send_knock": Endpoint("POST", "v3", lambda _r, _u: "send_knock/1", change("knock"), membership=True),
    "device": Endpoint("GET", "v1", lambda _r, _u: f"user/{ALICE}/device/D", of_a_room=False),
    "claim": Endpoint(
        "POST", "v1", lambda _r, _u: "user/keys/claim", lambda _w, _r: {"one_time_keys": {}}, of_a_room=False
    ),
}
WITH_BODY = {name: endpoint for name, endpoint in ENDPOINTS.items() if endpoint.body is not None}
OF_A_ROOM = {name: endpoint for name, endpoint in ENDPOINTS.items() if endpoint.of_a_room}


DEEP = b'{"a":' * 1000 + b"1" + b"}" * 1000
# Bodies that are no JSON object of interoperable values: status and error code.
NO_BODIES: list[tuple[bytes, int, str | None]] = [
    (b"{", 400, "M_NOT_JSON"),
    (b"\xff\xfe", 400, "M_NOT_JSON"),
    (b"[]", 400, "M_BAD_JSON"),
    (b'"text"', 400, "M_BAD_JSON"),
    (b'{"a": 1.5}', 400, "M_BAD_JSON"),
    (b'{"a": 9007199254740993}', 400, "M_BAD_JSON"),
    (b'{"a": 1e400}', 400, None),
    (b'{"a": NaN}', 400, "M_NOT_JSON"),
    (b'{"a": "\\ud800"}', 400, None),
    (DEEP, 400, None),
    (b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "M_TOO_LARGE"),
]


def snapshot(w: World) -> tuple[object, ...]:
    store = w.server.node.store
    return store.rooms(), store.position(), store.to_device_position(), store.followers()


async def raw(
    w: World, endpoint: Endpoint, path: str, content: bytes, *, authorization: str | None = None
) -> tuple[int, JsonObject]:
    """A request whose body need not be what was signed."""
    async with httpx.AsyncClient(transport=w.network.transport("b.example")) as client:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = await client.request(
            endpoint.method, f"https://a.example{path}", content=content, headers=headers
        )
    return answer.status_code, answer.json()


def sign(w: World, endpoint: Endpoint, path: str, body: JsonObject, *, to: str = "a.example") -> str:
    return sign_request(w.foreign.identity, destination=to, method=endpoint.method, uri=path, content=body)


def unproven(w: World, endpoint: Endpoint, path: str, body: JsonObject) -> dict[str, str | None]:
    """Authorization headers that prove nothing."""
    good = sign(w, endpoint, path, body)
    return {
        "none": None,
        "another scheme": "Bearer token",
        "another destination": sign(w, endpoint, path, body, to="c.example"),
        "another path": sign(w, endpoint, f"{path}x", body),
        "another body": sign(w, endpoint, path, {**body, "more": 1}),
        "another origin": good.replace('origin="b.example"', 'origin="c.example"'),
        "another key": good.replace(w.foreign.identity.key.key_id, "ed25519:other"),
        "no signature": good.partition(",sig=")[0],
        "no origin": good.replace('origin="b.example",', ""),
        "not a header": "X-Matrix !!!",
    }


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_request_that_does_not_prove_its_origin_is_refused(tmp_path: Path, name: str) -> None:
    endpoint = ENDPOINTS[name]
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        body = endpoint.body(w, room_id) if endpoint.body is not None else {}
        content = canonical_json(body) if endpoint.body is not None else b""
        before = snapshot(w)
        for path in endpoint.paths(room_id):
            for how, authorization in unproven(w, endpoint, path, body).items():
                status, answer = await raw(w, endpoint, path, content, authorization=authorization)
                assert (status, answer["errcode"]) == (401, "M_FORBIDDEN"), how
                check("error", answer)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", WITH_BODY)
async def test_a_body_that_is_no_json_object_is_refused(tmp_path: Path, name: str) -> None:
    endpoint = ENDPOINTS[name]
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        before = snapshot(w)
        for path in endpoint.paths(room_id):
            for content, expected, errcode in NO_BODIES:
                authorization = sign(w, endpoint, path, {})
                status, answer = await raw(w, endpoint, path, content, authorization=authorization)
                assert status == expected, content[:20]
                assert errcode in {None, answer["errcode"]}, content[:20]
                check("error", answer)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", WITH_BODY)
async def test_fields_of_the_wrong_type_are_refused(tmp_path: Path, name: str) -> None:
    """Every field of a proper body in turn becomes a number, list, object, text or null, or is gone."""
    endpoint = ENDPOINTS[name]
    assert endpoint.body is not None
    async with world(tmp_path) as w:
        room_id = await room(w.server, join_rule="knock")
        good = endpoint.body(w, room_id)
        before = snapshot(w)
        target = endpoint.paths(room_id)[1]
        for field in good:
            broken = [{**good, field: value} for value in (7, [7], {"7": 7}, "7", None)]
            broken.append({key: value for key, value in good.items() if key != field})
            for body in broken:
                answer = await w.foreign.ask(endpoint.method, target, body)
                assert answer.status in {200, 400, 403, 404}, (field, body)
                if answer.status != 200:
                    check("error", answer.body)
                else:  # what is optional may be missing or empty
                    assert (name, field) in {("send", "pdus"), ("claim", "one_time_keys")}
        assert snapshot(w) == before


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_trailing_slashes_and_other_methods_are_unrecognized(tmp_path: Path, name: str) -> None:
    endpoint = ENDPOINTS[name]
    async with world(tmp_path) as w:
        for path in endpoint.paths(UNKNOWN):
            bare, _, query = path.partition("?")
            for unknown in (
                f"{bare}/",
                f"/{bare}",
                f"{bare}/more",
                bare.replace("/federation/", "/federations/"),
            ):
                answer = await w.foreign.ask(endpoint.method, f"{unknown}?{query}")
                assert (answer.status, answer.errcode) == (404, "M_UNRECOGNIZED"), unknown
                check("error", answer.body)
            other = "DELETE"
            answer = await w.foreign.ask(other, path)
            assert (answer.status, answer.errcode) == (405, "M_UNRECOGNIZED")
            check("error", answer.body)


@pytest.mark.parametrize("name", OF_A_ROOM)
async def test_rooms_we_do_not_order_are_refused(tmp_path: Path, name: str) -> None:
    endpoint = ENDPOINTS[name]
    async with world(tmp_path) as w:
        row = RoomRow(
            room_id=THEIRS, version="I.1", role=Role.PARTICIPANT, hub="b.example", head_seq=0, epoch=None
        )
        await w.server.node.store.append(RoomAppend(room_id=THEIRS, room=row))
        cases = [
            (UNKNOWN, 404, "M_NOT_FOUND"),
            (THEIRS, 400, "M_WRONG_SERVER"),
            *([("nonsense", 404, "M_NOT_FOUND")] if endpoint.body is None else []),
        ]
        before = snapshot(w)
        for room_id, status, errcode in cases:
            body = endpoint.body(w, room_id) if endpoint.body is not None else None
            for path in endpoint.paths(room_id):
                answer = await w.foreign.ask(endpoint.method, path, body)
                assert (answer.status, answer.errcode) == (status, errcode), room_id
                check("error", answer.body)
        assert snapshot(w) == before


@pytest.mark.parametrize("name", [*OF_A_ROOM, "invite"])
async def test_a_server_that_the_rooms_acl_denies_is_refused(tmp_path: Path, name: str) -> None:
    endpoint = ENDPOINTS[name]
    acl = LocalEvent(
        sender=ALICE,
        type="m.room.server_acl",
        state_key="",
        content={"allow": ["*"], "deny": ["b.example"]},
    )
    async with world(tmp_path) as w:
        room_id = await room(w.server, more=(acl,))
        before = snapshot(w)
        body = endpoint.body(w, room_id) if endpoint.body is not None else None
        for path in endpoint.paths(room_id):
            answer = await w.foreign.ask(endpoint.method, path, body)
            assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
            check("error", answer.body)
        assert snapshot(w) == before


async def test_events_of_a_denied_server_fail_one_by_one_and_others_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        denied, other = await room(w.server), await room(w.server)
        for room_id in (denied, other):
            await w.foreign.join(room_id)
        acl = LocalEvent(
            sender=ALICE,
            type="m.room.server_acl",
            state_key="",
            content={"allow": ["*"], "deny": ["b.*"]},
        )
        await w.server.node.rooms.send(denied, acl)
        last = w.server.node.store.entries_before(denied, before=2**40, limit=1)[0]
        lpdus = [w.foreign.lpdu(room_id, BOB, "org.example.note", {}) for room_id in (denied, other)]
        answer = await w.foreign.send("1", *lpdus)
        check("transaction.response", answer.body)
        (failure,) = answer.body["failed_pdus"].values()
        assert "denied by the room's server ACL" in failure["error"]
        hidden = await w.foreign.ask("GET", f"{FINAL}/v2/event/{last.event_id}")
        assert (hidden.status, hidden.errcode) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize("name", ["state", "state_ids", "backfill", "event"])
async def test_for_a_server_outside_a_room_its_events_do_not_exist(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server, join_rule="invite")
        known = event_id(w, room_id)
        for path in ENDPOINTS[name].paths(room_id):
            answer = await w.foreign.ask("GET", path.replace("$none", known))
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
            check("error", answer.body)


@pytest.mark.parametrize("name", [name for name, endpoint in ENDPOINTS.items() if endpoint.membership])
async def test_nobody_asks_for_a_change_in_another_servers_users_name(tmp_path: Path, name: str) -> None:
    endpoint = ENDPOINTS[name]
    async with world(tmp_path) as w:
        stranger = Foreign("c.example", w.network)
        room_id = await room(w.server)
        before = snapshot(w)
        body = endpoint.body(w, room_id) if endpoint.body is not None else None
        for path in endpoint.paths(room_id):
            answer = await stranger.ask(endpoint.method, path, body)
            assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
            check("error", answer.body)
        assert snapshot(w) == before


async def test_the_table_has_every_signed_endpoint(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        served = {
            (route.method, route.pattern)
            for route in routes(w.server.node)
            if route.pattern.startswith((f"{FINAL}/v", UNSTABLE)) and not route.pattern.endswith("/version")
        }
        router = Router(routes(w.server.node))
        tested = set()
        for endpoint in ENDPOINTS.values():
            for path in endpoint.paths(UNKNOWN):
                route, _ = router.match(endpoint.method, path.partition("?")[0])
                tested.add((route.method, route.pattern))
        assert tested == served


async def test_every_endpoint_of_the_draft_is_served(tmp_path: Path) -> None:
    draft = [
        (endpoint.method, endpoint.paths(UNKNOWN)[0].partition("?")[0]) for endpoint in ENDPOINTS.values()
    ]
    draft += [
        ("GET", "/.well-known/matrix/server"),
        ("GET", "/_matrix/key/v2/server"),
        ("GET", "/_matrix/key/v2/query/c.example"),
        ("POST", "/_matrix/key/v2/query"),
    ]
    assert len(draft) == 18, "those that have a section of their own in it"
    async with world(tmp_path) as w:
        router = Router(routes(w.server.node))
        served = {(route.method, route.pattern) for route in (router.match(*asked)[0] for asked in draft)}
        assert len(served) == len(draft)


async def test_the_body_of_a_request_that_cannot_be_authentic_is_not_read(tmp_path: Path) -> None:
    """Of what nobody can have signed, no byte is kept; what is well signed but for its body is read."""
    async with world(tmp_path) as w:
        endpoint, path = ENDPOINTS["send"], ENDPOINTS["send"].paths(UNKNOWN)[0]
        read: list[str] = []
        real = Request.checked_json

        async def json(request: Request) -> tuple[JsonObject, bool]:
            read.append(request.raw_target)
            return await real(request)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Request, "checked_json", json)
            good = sign(w, endpoint, path, {})
            for authorization in (
                None,
                sign(w, endpoint, path, {}, to="c.example"),
                good.replace('origin="b.example"', 'origin="nowhere.example"'),
                good.replace(w.foreign.identity.key.key_id, "ed25519:other"),
            ):
                status, _ = await raw(w, endpoint, path, b"{}", authorization=authorization)
                assert status == 401
            assert read == []
            assert (await raw(w, endpoint, path, b'{"pdus": 1}', authorization=good))[0] == 401
            assert len(read) == 1
