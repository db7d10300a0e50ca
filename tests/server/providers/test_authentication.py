"""Who may speak at the MIMI face, and where everything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from linearized.mimi.messages import SubmitMessageRequest, SubmitMessageResponse, SubmitResponseCode
from linearized.room.submissions import ApplicationMessage
from linearized.server.providers.client import DIRECTORY_PATH

from .support import world


def request(body: ApplicationMessage) -> bytes:

    return SubmitMessageRequest(message=body.message, sending_uri=body.sending_uri).encode()


async def test_the_directory_names_every_endpoint_with_its_placeholder(tmp_path: Path) -> None:
    async with world(tmp_path, with_bob=False) as w, w.server.http() as client:
        directory = (await client.get(DIRECTORY_PATH)).json()
    assert directory == {
        "keyMaterial": "https://a.example/_mimi/v1/keyMaterial/{targetUser}",
        "update": "https://a.example/_mimi/v1/update/{roomId}",
        "notify": "https://a.example/_mimi/v1/notify/{roomId}",
        "submitMessage": "https://a.example/_mimi/v1/submitMessage/{roomId}",
        "groupInfo": "https://a.example/_mimi/v1/groupInfo/{roomId}",
        "requestConsent": "https://a.example/_mimi/v1/requestConsent/{targetUser}",
        "updateConsent": "https://a.example/_mimi/v1/updateConsent/{requesterUser}",
        "identifierQuery": "https://a.example/_mimi/v1/identifierQuery/{domain}",
        "reportAbuse": "https://a.example/_mimi/v1/reportAbuse/{roomId}",
        "proxyDownload": "https://a.example/_mimi/v1/proxyDownload/{downloadUrl}",
        "dev.linearized.deliveryService": "https://a.example/_mimi/v1/deliveryService/{roomId}",
        "dev.linearized.fanoutRequest": "https://a.example/_mimi/v1/fanoutRequest/{roomId}",
        "dev.linearized.fanoutTokens": "https://a.example/_mimi/v1/fanoutTokens/{roomId}",
        "dev.linearized.hubMoved": "https://a.example/_mimi/v1/hubMoved/{roomId}",
        "dev.linearized.metadataPolicy": "https://a.example/_mimi/v1/metadataPolicy",
        "dev.linearized.ohttpGateway": "https://a.example/.well-known/ohttp-gateway",
        "dev.linearized.ohttpKeys": "https://a.example/_mimi/v1/ohttpKeys",
        "dev.linearized.follow": "https://a.example/_mimi/v1/follow",
    }


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"certificate": ""}, 401),
        ({"sender": ""}, 400),
        ({"sender": "b.example"}, 400),
        ({"sender": "alice@b.example"}, 400),
        ({"sender": "mimi@c.example"}, 401),
        ({"certificate": "c.example"}, 401),
        ({"host": "c.example"}, 421),
        ({"host": "c.example:8448"}, 421),
    ],
    ids=[
        "no certificate",
        "no From",
        "no local part",
        "wrong local part",
        "From another",
        "another's",
        "Host",
        "port",
    ],
)
async def test_a_caller_that_does_not_prove_who_it_is_and_whom_it_means_is_refused(
    tmp_path: Path, options: dict[str, str], status: int
) -> None:
    async with world(tmp_path) as w:
        before = w.head()
        body = request(w.bob.message())
        for endpoint in ("keyMaterial", "update", "notify", "submitMessage", "groupInfo"):
            answer = await w.other.ask(endpoint, w.uri, body, **options)
            assert answer.status_code == status
            assert answer.json()["errcode"]
        assert w.head() == before


async def test_the_port_of_a_host_header_says_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        answer = await w.other.ask("submitMessage", w.uri, request(w.bob.message()), host="a.example:9999")
        assert SubmitMessageResponse.decode(answer.content).code is SubmitResponseCode.ACCEPTED
