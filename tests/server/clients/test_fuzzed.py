"""The client API against its own document: requests made from ``schemas/openapi.yaml``, valid or not.

Every answer has to be one that the document describes. Takes about half a minute, most of it to make the
requests; the seed is fixed. ``make soak`` makes more (``LINEARIZED_SOAK_REQUESTS``, for each operation).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from linearized.server.clients import PRIVATE
from tests.server.clients.openapi import openapi
from tests.server.clients.support import ENCRYPTED_ROOM, Client, Server, part

REQUESTS: Final = int(os.environ.get("LINEARIZED_SOAK_REQUESTS", "3"))
CHECKS: Final = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# What no answer to a request that failed may tell: how the program runs, and where.
LEAKS: Final = re.compile(r'Traceback|File "|\.py\b|\.sqlite3|site-packages|0x[0-9a-f]{8}')
# It never ends, so it cannot be waited for; it has tests of its own.
BAD_GATEWAY: Final = 502  # what is asked for is at another server, and here there is none
FILE: Final = b"nothing that could be shown"
NEVER_ENDS: Final = "/_matrix/client/unstable/dev.linearized.1/rooms/{room_id}/live"
# Of the operations, so that not all requests fail at the first check. The rest want what cannot be made up:
# signed or encrypted things, a password, another server.
SHARE_THAT_SUCCEEDS: Final = 0.6


@dataclass(slots=True)
class Scene:
    """A user who is logged in, and what there is for them to name in a request."""

    alice: Client
    known: dict[str, list[str]]


async def scene(server: Server, number: int) -> Scene:
    """Made anew for each operation: many end what they are given."""
    alice, bob = [await server.user(f"{name}{number}") for name in ("alice", "bob")]
    plain = await alice.create_room(invite=[bob.user_id], preset="public_chat")
    encrypted = await alice.create_room(creation_content=ENCRYPTED_ROOM, room_version="dev.linearized.1")
    path = "/_matrix/media/v3/upload"
    uri = (await server.call("POST", path, raw=FILE, token=alice.token)).ok()["content_uri"]
    file = uri.rpartition("/")[2]
    filter_id = (await alice.call("POST", f"/user/{part(alice.user_id)}/filter", {})).ok()["filter_id"]
    event_id = (await alice.send(plain, "hello", "t1")).ok()["event_id"]
    return Scene(
        alice,
        {
            "room_id": [plain, encrypted, "!nowhere:a.example"],
            "user_id": [alice.user_id, alice.user_id, bob.user_id, "@nobody:b.example"],
            "event_id": [event_id, "$nothing"],
            "device_id": ["DEVICE"],
            "field": ["displayname", "avatar_url"],
            "kind": ["override", "content"],
            "rule_id": [".m.rule.master", ".m.rule.contains_user_name", "mine"],
            "part": ["enabled", "actions"],
            "receipt_type": ["m.read", "m.read.private", "m.fully_read"],
            "rel_type": ["m.thread", "m.annotation"],
            "server_name": ["a.example"],
            "media_id": [file],
            "filter_id": [filter_id],
            "type": ["org.example.colour"],
            "event_type": ["m.room.message", "m.room.topic", "m.room.member", "m.room.redaction"],
        },
    )


@dataclass(slots=True)
class Fuzzer:
    """Asks the application, in the thread of the loop, what another thread makes up."""

    server: Server
    http: httpx.AsyncClient
    answers: dict[str, Counter[int]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def all_operations(self) -> None:
        """In a thread of its own."""
        schema = schemathesis.openapi.from_dict(openapi())
        for number, found in enumerate(schema.get_all_operations()):
            assert isinstance(found, Ok), found
            operation = found.ok()
            if operation.path != NEVER_ENDS:
                self.answers[operation.label] = Counter()
                for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                    stage = trio.from_thread.run(
                        scene, self.server, 2 * number + (mode is GenerationMode.NEGATIVE)
                    )
                    self.operation(operation, mode, stage)

    def operation(
        self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, stage: Scene
    ) -> None:
        """A few requests of one kind; what is wrong with the answers is noted."""

        @settings(
            max_examples=max(1, REQUESTS if mode is GenerationMode.POSITIVE else REQUESTS // 2),
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def ask(case: Case[Any], data: st.DataObject) -> None:
            for name in case.path_parameters:
                if name in stage.known and data.draw(st.integers(0, 9)) < 9:
                    case.path_parameters[name] = data.draw(st.sampled_from(stage.known[name]))
            case.query.pop("timeout", None)  # nothing will come
            response = trio.from_thread.run(self.send, case, stage.alice.token)
            self.answers[operation.label][response.status_code] += 1
            case.validate_response(response, checks=CHECKS)
            assert response.status_code in {*range(500), BAD_GATEWAY}, response.text
            if response.status_code != 200:
                assert not LEAKS.search(response.text), response.text

        try:
            ask()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # without parameters and a body nothing can be wrong
        except (Exception, FailureGroup) as error:  # noqa: BLE001 - the other operations are asked, too
            self.complaints.append(f"{operation.label}: {error!r}"[:3000])

    async def send(self, case: Case[Any], token: str) -> httpx.Response:
        """A case as a request to the application."""
        made = case.as_transport_kwargs(base_url="https://a.example")
        kwargs = {
            key: made[key] for key in made.keys() & {"method", "url", "headers", "params", "json", "data"}
        }
        prepared = requests.Request(**kwargs).prepare()
        headers = {**prepared.headers, "Authorization": f"Bearer {token}"}
        assert prepared.method is not None
        assert prepared.url is not None
        return await self.http.request(prepared.method, prepared.url, headers=headers, content=prepared.body)


async def test_every_answer_is_one_that_the_document_describes(server: Server) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=cast("Any", server.app))) as http:
        fuzzer = Fuzzer(server, http)
        await trio.to_thread.run_sync(fuzzer.all_operations)
    assert fuzzer.complaints == []
    succeeded = [label for label, answers in fuzzer.answers.items() if answers[200]]
    assert len(succeeded) > SHARE_THAT_SUCCEEDS * len(fuzzer.answers), succeeded


async def test_without_a_token_nothing_else_is_looked_at(server: Server) -> None:
    for number, (method, pattern, _) in enumerate(PRIVATE):
        path = re.sub(r"{\w+}", "x", pattern)
        for token, errcode in ((None, "M_MISSING_TOKEN"), ("wrong", "M_UNKNOWN_TOKEN")):
            (await server.call(method, path, raw=b"{", token=token, address=f"192.0.2.{number}")).refused(
                401, errcode
            )
