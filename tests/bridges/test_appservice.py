"""What a real homeserver sent, to our application service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridges.matrix import appservice
from bridges.matrix.appservice import AppService
from bridges.matrix.database import Database
from bridges.matrix.megolm.mailbox import MailboxFull
from bridges.matrix.provisioning import ProvisioningError
from bridges.matrix.queue import IncomingQueue
from linearized.client import ServerUnreachable
from linearized.client.transport import in_one_piece

VECTORS = Path(__file__).parent.parent / "vectors" / "synapse-appservice"
TOKEN = "t" * 40


class Service:
    def __init__(self) -> None:
        self.database = Database(":memory:")
        self.queue = IncomingQueue(self.database)
        self.arrivals = 0
        self.asked: list[str] = []
        self.heard: list[object] = []
        # Transactions, with how many events waited before.
        self.noted: list[tuple[str, tuple[str, int] | None, int]] = []
        self.app = AppService(
            hs_token=TOKEN,
            queue=self.queue,
            keep=self._keep,
            hear=self.heard.extend,
            note=self._note,
            arrived=self._arrived,
            user_exists=self._exists,
            room_exists=self._exists,
            provision=self._provision,
        )

    async def _provision(
        self, method: str, parts: list[str], token: bytes | None, body: bytes
    ) -> tuple[int, Any]:
        assert body in (b"", b"{}")
        if token != b"provisioning":
            raise ProvisioningError(403, "M_FORBIDDEN", "no")
        return 202, {"asked": [method, *parts]}

    def _note(self, txn_id: str, peer: tuple[str, int] | None) -> None:
        self.noted.append((txn_id, peer, len(self.waiting())))

    def _keep(self, transaction: dict[str, Any]) -> bool:
        if transaction.get("full"):
            raise MailboxFull
        return "something" in transaction

    def _arrived(self) -> None:
        self.arrivals += 1

    async def _exists(self, user_id: str) -> bool:
        self.asked.append(user_id)
        if "away" in user_id:
            raise ServerUnreachable("away")
        return "ghost" in user_id

    async def request(
        self, method: str, path: str, body: Any = None, token: str | None = f"Bearer {TOKEN}"
    ) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app)) as http:
            headers = {} if token is None else {"Authorization": token}
            content = body if isinstance(body, bytes) or body is None else json.dumps(body)
            request = http.build_request(method, f"http://bridge{path}", headers=headers, content=content)
            # Of a body that is too large, not all is read.
            return await http.send(in_one_piece(request))

    def waiting(self) -> list[str]:
        rows = self.database.all("SELECT event_id FROM incoming WHERE state = 'waiting' ORDER BY position")
        return [row["event_id"] for row in rows]


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.database.close()


def requests(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["requests"]
    return found


TRANSACTIONS = sorted(
    path.stem
    for path in VECTORS.glob("*.json")
    if any("/transactions/" in request["path"] for request in requests(path.stem))
)


@pytest.mark.parametrize("name", TRANSACTIONS)
async def test_every_captured_transaction_is_taken(service: Service, name: str) -> None:
    wanted = []
    for request in requests(name):
        if "/transactions/" in request["path"]:
            answer = await service.request(request["method"], request["path"], request["body"])
            assert (answer.status_code, answer.json()) == (200, {})
            wanted += [event["event_id"] for event in request["body"]["events"]]
    assert service.waiting() == wanted
    assert bool(service.arrivals) is bool(wanted)


async def test_what_else_a_transaction_brings_is_kept_with_its_events_or_not_at_all(service: Service) -> None:
    event = {"event_id": "$1", "room_id": "!r:b", "type": "m.x"}
    path = "/_matrix/app/v1/transactions/1"
    answer = await service.request("PUT", path, {"events": [event], "full": True})
    assert (answer.status_code, service.waiting(), service.arrivals) == (503, [], 0)
    # It comes again, and then there is room.
    answer = await service.request("PUT", path, {"events": [event], "full": True})
    assert answer.status_code == 503
    answer = await service.request("PUT", path, {"events": [event], "full": False})
    assert (answer.status_code, service.waiting(), service.arrivals) == (200, ["$1"], 1)
    # Something to do without an event wakes the bridge, too.
    answer = await service.request("PUT", path, {"events": [], "something": 1})
    assert (answer.status_code, service.arrivals) == (200, 2)


async def test_each_transaction_is_noted_with_its_connection_before_its_events_are_taken(
    service: Service,
) -> None:
    for txn_id, port in (("7", 1), ("8", 2)):
        event = {"event_id": f"${txn_id}", "room_id": "!r:b", "type": "m.x"}
        transport = httpx.ASGITransport(app=service.app, client=("127.0.0.1", port))
        async with httpx.AsyncClient(transport=transport) as http:
            path = f"http://bridge/_matrix/app/v1/transactions/{txn_id}"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            await http.put(path, json={"events": [event]}, headers=headers)
    assert service.noted == [("7", ("127.0.0.1", 1), 0), ("8", ("127.0.0.1", 2), 1)]


async def test_the_same_transaction_again_changes_nothing(service: Service) -> None:
    (request,) = requests("reply")
    for _ in range(3):
        answer = await service.request("PUT", request["path"], request["body"])
        assert answer.status_code == 200
    assert len(service.waiting()) == service.arrivals == 1


async def test_a_transaction_id_used_again_for_other_events_loses_nothing(service: Service) -> None:
    (first,), (second,) = requests("reply"), requests("edit")
    for request in (first, second):
        await service.request("PUT", "/_matrix/app/v1/transactions/1", request["body"])
    assert len(service.waiting()) == 2


async def test_an_event_in_two_transactions_is_here_once(service: Service) -> None:
    (request,) = requests("reply")
    for number in (1, 2):
        body = {**request["body"], "ephemeral": [number]}
        await service.request("PUT", f"/_matrix/app/v1/transactions/{number}", body)
    assert len(service.waiting()) == 1


async def test_ephemeral_data_is_not_kept(service: Service) -> None:
    body = {
        "events": [],
        "ephemeral": [{"type": "m.typing", "room_id": "!r:hs.test", "content": {"user_ids": ["@a:hs.test"]}}],
        "de.sorunome.msc2409.to_device": [{"type": "m.room_key", "content": {"key": "secret"}}],
    }
    answer = await service.request("PUT", "/_matrix/app/v1/transactions/1", body)
    assert answer.status_code == 200
    assert (service.waiting(), service.arrivals) == ([], 0)
    assert service.database.one("SELECT COUNT(*) FROM incoming")[0] == 0


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("Bearer wrong", 403), (f"Basic {TOKEN}", 403)])
async def test_without_the_right_token_nothing_is_taken(
    service: Service, token: str | None, status: int
) -> None:
    (request,) = requests("reply")
    answer = await service.request("PUT", request["path"], request["body"], token)
    assert answer.status_code == status
    assert "errcode" in answer.json()
    assert service.waiting() == []


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b'{"events": 1}', 400), (b'{"events": [1, {}]}', 200)]
)
async def test_a_malformed_transaction_is_refused_or_emptied(
    service: Service, body: bytes, status: int
) -> None:
    answer = await service.request("PUT", "/_matrix/app/v1/transactions/1", body)
    assert answer.status_code == status
    assert service.waiting() == []


async def test_a_transaction_that_is_too_large_is_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appservice, "MAX_BODY_BYTES", 100)
    answer = await service.request("PUT", "/_matrix/app/v1/transactions/1", b" " * 101)
    assert answer.status_code == 413


async def test_pings_and_queries_are_answered(service: Service) -> None:
    (ping,) = requests("ping")
    assert (await service.request(ping["method"], ping["path"], ping["body"])).status_code == 200
    (alias,) = requests("alias_query")
    assert (await service.request(alias["method"], alias["path"])).status_code == 404
    query = next(r for r in requests("invite_unregistered_ghost_query") if "/users/" in r["path"])
    assert (await service.request(query["method"], query["path"])).status_code == 200
    assert service.asked == ["#_mimi_foo:hs.test", "@_mimi_newghost:hs.test"]
    assert (await service.request("GET", "/_matrix/app/v1/users/%40nobody%3Ahs.test")).status_code == 404
    assert (await service.request("GET", "/users/%40_ghost%3Ahs.test")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_matrix/app/v1/transactions/1", 405),
        ("GET", "/_matrix/app/v1/ping", 405),
        ("GET", "/_matrix/app/v1/thirdparty/protocol/mimi", 404),
        ("POST", "/_matrix/app/unstable/org.matrix.msc3983/keys/claim", 404),
        ("GET", "/", 404),
    ],
)
async def test_what_we_do_not_offer_is_said_to_be_unknown(
    service: Service, method: str, path: str, status: int
) -> None:
    answer = await service.request(method, path, {} if method == "POST" else None)
    assert answer.status_code == status
    assert answer.json()["errcode"] == "M_UNRECOGNIZED"


async def test_an_alias_is_asked_for_decoded(service: Service) -> None:
    assert (await service.request("GET", "/_matrix/app/v1/rooms/%23ghost%2Fx%3Ay")).status_code == 200
    assert (await service.request("GET", "/_matrix/app/v1/rooms/%23other%3Ay")).status_code == 404
    assert service.asked == ["#ghost/x:y", "#other:y"]


async def test_what_cannot_be_made_because_a_side_is_away_may_be_asked_for_again(service: Service) -> None:
    for path in ("users/%40away%3Ay", "rooms/%23away%3Ay"):
        answer = await service.request("GET", f"/_matrix/app/v1/{path}")
        assert (answer.status_code, answer.json()["errcode"]) == (502, "M_UNKNOWN")


async def test_provisioning_has_a_token_of_its_own(service: Service) -> None:
    path = "/_linearized/bridge/v1/rooms/%21r%2F%3Ax/bridge"
    answer = await service.request("POST", path, {}, token="Bearer provisioning")
    assert (answer.status_code, answer.json()) == (202, {"asked": ["POST", "rooms", "!r/:x", "bridge"]})
    for token in (None, f"Bearer {TOKEN}", "Basic provisioning"):
        refused = await service.request("POST", path, {}, token=token)
        assert (refused.status_code, refused.json()["errcode"]) == (403, "M_FORBIDDEN")
    homeserver = await service.request("GET", "/_matrix/app/v1/users/@ghost:x", token="Bearer provisioning")
    assert homeserver.status_code == 403
