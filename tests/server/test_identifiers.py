"""Finding another provider's users: who is found, by what, and how much is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from linearized.client import ApiError, Session
from linearized.mimi.identifier_query import (
    IdentifierQueryCode,
    IdentifierRequest,
    IdentifierResponse,
    QueryElement,
    SearchIdentifierType,
)
from linearized.server import identifiers
from linearized.server.buckets import Buckets
from linearized.server.http import HttpError
from linearized.server.providers.client import ProviderError
from linearized.store.contacts import FieldRow
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import signed_in

ALICE, BOB = "@alice:a.example", "@bob:b.example"
GIVEN = {"source": "oidc", "name": "given_name", "value": "Matthias"}
ORG = {"source": "vcard", "name": "ORG", "value": "Example Org"}


@dataclass
class Scene:
    """Alice of a.example looks for Bob of b.example."""

    a: Server
    b: Server
    alice: Session
    bob: Session

    async def find(self, kind: str, value: str, name: str | None = None) -> list[str]:
        condition = {"type": kind, "value": value, **({"name": name} if name is not None else {})}
        return [user["user_id"] for user in await self.alice.api.find_users("b.example", condition)]

    async def ask(self, *elements: QueryElement, domain: str = "b.example") -> IdentifierResponse:
        request = IdentifierRequest(query_elements=elements)
        return await identifiers.ask(self.a.node, user_id=ALICE, domain=domain, request=request)

    async def crowd(self, count: int, value: str) -> None:
        """Users of b.example with one given name."""
        for number in range(count):
            user_id = f"@user{number}:b.example"
            row = FieldRow(user_id=user_id, source=7, name="given_name", value=value)
            await self.b.node.store.put_fields(user_id, [row])


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        yield Scene(a, b, alice, bob)


async def test_a_user_who_put_up_nothing_is_not_found_by_anything(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for kind, value in (("handle", "im:bob@b.example"), ("nick", "bob"), ("whole_profile", "bob")):
            assert await s.find(kind, value) == []
        assert (await s.ask(named("bob"))).code is IdentifierQueryCode.NOT_FOUND


async def test_a_user_is_found_by_what_they_put_up_and_shown_with_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bob.api.be_found_by(GIVEN, ORG, handle=True)
        for kind, value, name in (
            ("handle", "im:bob@b.example", None),
            ("handle", "mimi://b.example/u/bob", None),
            ("nick", "bob", None),
            ("oidc", "Matthias", "given_name"),
            ("vcard", "Example Org", "ORG"),
            ("partial_name", "mat", None),
            ("whole_profile", "example o", None),
        ):
            assert await s.find(kind, value, name) == [BOB], kind
        for kind, value, name in (
            ("handle", "im:bo@b.example", None),
            ("oidc", "matthias", "given_name"),
            ("partial_name", "example", None),
            ("email", "bob@b.example", None),
            ("phone", "+12125551212", None),
        ):
            assert await s.find(kind, value, name) == [], kind
        (found,) = await s.alice.api.find_users("b.example", {"type": "nick", "value": "bob"})
        assert found["fields"] == [GIVEN, ORG]


async def test_all_conditions_have_to_fit(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bob.api.be_found_by(GIVEN, ORG)
        given = {"type": "oidc", "name": "given_name", "value": "Matthias"}
        org = {"type": "vcard", "name": "ORG", "value": "Example Org"}
        other = {**org, "value": "Another"}
        assert [user["user_id"] for user in await s.alice.api.find_users("b.example", given, org)] == [BOB]
        assert await s.alice.api.find_users("b.example", given, other) == []


async def test_a_user_who_takes_everything_back_is_not_found_any_more(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bob.api.be_found_by(GIVEN, handle=True)
        await s.bob.api.be_found_by()
        assert await s.find("nick", "bob") == []


def named(value: str) -> QueryElement:
    return QueryElement(search_type=SearchIdentifierType.PARTIAL_NAME, search_value=value)


def given(value: str) -> QueryElement:
    return QueryElement(
        search_type=SearchIdentifierType.OIDC_STD_CLAIM, claim_name="given_name", search_value=value
    )


async def test_too_many_people_are_ambiguous_and_nobody_is_named(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.crowd(identifiers.MAX_RESULTS, "Max")
        assert len((await s.ask(given("Max"))).uris) == identifiers.MAX_RESULTS
        await s.bob.api.be_found_by({"source": "oidc", "name": "given_name", "value": "Max"})
        answer = await s.ask(given("Max"))
        assert (answer.code, answer.uris) == (IdentifierQueryCode.AMBIGUOUS, ())


async def test_a_condition_that_fits_most_people_is_ambiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as s:
        await s.crowd(3, "Max")
        monkeypatch.setattr(identifiers, "MAX_MATCHES", 3)
        assert (await s.ask(given("Max"))).code is IdentifierQueryCode.AMBIGUOUS
        assert (await s.ask(named("ma"))).code is IdentifierQueryCode.AMBIGUOUS


async def test_no_conditions_or_too_many_or_too_long_ones_are_forbidden(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        many = [given("x")] * (identifiers.MAX_ELEMENTS + 1)
        for elements in ([], many, [given("x" * (identifiers.MAX_VALUE + 1))]):
            assert (await s.ask(*elements)).code is IdentifierQueryCode.FORBIDDEN


async def test_a_field_that_is_no_search_term_is_unsupported(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        birthday = QueryElement(
            search_type=SearchIdentifierType.OIDC_STD_CLAIM, claim_name="birthdate", search_value="2000-01-01"
        )
        assert (await s.ask(given("x"), birthday)).code is IdentifierQueryCode.UNSUPPORTED_FIELD


async def test_a_domain_that_is_not_the_providers_and_a_malformed_query_are_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        providers = s.a.node.providers
        body = IdentifierRequest(query_elements=(given("x"),)).encode()
        assert (await providers.post("b.example", "identifierQuery", "c.example", body)).status == 404
        assert (await providers.post("b.example", "identifierQuery", "b.example", b"\x05")).status == 400


async def test_queries_are_limited_for_each_provider_and_each_user(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for server in (s.a, s.b):
            server.node.query_limit = Buckets(server.node.clock, per_second=0.001, burst=1)
        request = IdentifierRequest(query_elements=(given("x"),))
        statuses = []
        for _ in range(2):
            answer = await s.a.node.providers.post(
                "b.example", "identifierQuery", "b.example", request.encode()
            )
            statuses.append(answer.status)
        assert statuses == [200, 429]
        other = identifiers.answer(s.b.node, "c.example", "b.example", request)
        assert other.code is IdentifierQueryCode.NOT_FOUND
        await s.ask(given("x"), domain="a.example")
        with pytest.raises(HttpError) as raised:
            await s.ask(given("x"), domain="a.example")
        assert raised.value.status == 429


async def test_ones_own_provider_is_asked_without_a_request(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.alice.api.be_found_by(handle=True)
        found = await s.alice.api.find_users("a.example", {"type": "nick", "value": "alice"})
        assert [user["user_id"] for user in found] == [ALICE]


@pytest.mark.parametrize(
    "lie",
    [
        IdentifierResponse(code=IdentifierQueryCode.SUCCESS, uris=("mimi://a.example/u/alice",)).encode(),
        IdentifierResponse(code=IdentifierQueryCode.SUCCESS, uris=("nobody",)).encode(),
        IdentifierResponse(
            code=IdentifierQueryCode.SUCCESS,
            uris=tuple(f"mimi://b.example/u/u{n}" for n in range(identifiers.MAX_ANSWERED + 1)),
        ).encode(),
        b"no answer",
    ],
    ids=["of another provider", "no user", "too many", "malformed"],
)
async def test_a_provider_that_answers_with_what_is_not_its_own_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: bytes
) -> None:
    async with scene(tmp_path) as s:

        async def exchange(*_: object) -> bytes:
            return lie

        monkeypatch.setattr(s.a.node.providers, "exchange", exchange)
        with pytest.raises(ProviderError):
            await s.ask(given("x"))


async def test_what_a_client_puts_up_is_read_back_and_checked(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        path = "/_matrix/client/unstable/dev.linearized.1/identifiers/profile"
        transport = s.bob.api._transport
        assert await transport.json("GET", path, idempotent=True) == {"handle": False, "fields": []}
        await s.bob.api.be_found_by(ORG, handle=True)
        assert await transport.json("GET", path, idempotent=True) == {"handle": True, "fields": [ORG]}
        for wrong in (
            {**ORG, "source": "ldap"},
            {**ORG, "name": "BDAY"},
            {**ORG, "value": "x" * 257},
            {"source": "vcard", "name": "ORG"},
        ):
            with pytest.raises(ApiError) as raised:
                await s.bob.api.be_found_by(wrong)
            assert raised.value.status == 400
        with pytest.raises(ApiError):
            await s.bob.api.be_found_by(*[ORG] * (identifiers.MAX_FIELDS + 1))
        for domain, condition in (
            ("b.example", {"type": "shoe_size", "value": "44"}),
            ("b.example", {"type": "oidc", "value": "44"}),
            ("no domain", {"type": "nick", "value": "bob"}),
        ):
            with pytest.raises(ApiError) as raised:
                await s.alice.api.find_users(domain, condition)
            assert raised.value.status == 400
        assert await transport.json("GET", path, idempotent=True) == {"handle": True, "fields": [ORG]}
