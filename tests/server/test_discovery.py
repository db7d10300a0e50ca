"""Server names resolved by the draft's cases, without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from linearized.config import Address
from linearized.server import discovery
from linearized.server.discovery import HOUR_MS, Destination, Resolver, WellKnown


@dataclass
class Internet:
    """What hosts publish, and what was asked of them."""

    documents: dict[str, WellKnown] = field(default_factory=dict)
    records: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    now: int = 1_700_000_000_000

    def delegates(self, host: str, target: object, cache_control: str = "") -> None:
        body = json.dumps({"m.server": target}).encode()
        self.documents[host] = WellKnown(status=200, body=body, cache_control=cache_control)

    async def fetch(self, host: str) -> WellKnown:
        self.fetched.append(host)
        return self.documents.get(host, WellKnown(status=0))

    async def srv(self, name: str) -> tuple[Address, ...] | None:
        return self.records.get(name)

    def resolver(self, **overrides: str) -> Resolver:
        addresses = {name: Address(host=to, port=9448) for name, to in overrides.items()}
        return Resolver(overrides=addresses, fetch=self.fetch, clock=lambda: self.now, srv=self.srv)


def at(host: str, port: int, tls_name: str, host_header: str, *, trusted: bool = False) -> Destination:
    return Destination(
        addresses=(Address(host=host, port=port),),
        tls_name=tls_name,
        host_header=host_header,
        trusted=trusted,
    )


@pytest.fixture
def internet() -> Internet:
    return Internet()


async def test_an_explicit_port_needs_no_further_question(internet: Internet) -> None:
    found = await internet.resolver().resolve("b.example:1234")
    assert found == at("b.example", 1234, "b.example", "b.example:1234")
    assert internet.fetched == []


async def test_a_delegation_with_a_port(internet: Internet) -> None:
    internet.delegates("b.example", "matrix.c.example:1234")
    found = await internet.resolver().resolve("b.example")
    assert found == at("matrix.c.example", 1234, "matrix.c.example", "matrix.c.example:1234")


async def test_a_delegation_with_an_srv_record(internet: Internet) -> None:
    internet.delegates("b.example", "c.example")
    internet.records["_matrix._tcp.c.example"] = (Address(host="host.d.example", port=1234),)
    found = await internet.resolver().resolve("b.example")
    assert found == at("host.d.example", 1234, "c.example", "c.example")


async def test_a_delegation_without_port_or_record(internet: Internet) -> None:
    internet.delegates("b.example", "c.example")
    internet.records["_matrix._tcp.b.example"] = (Address(host="not-this.example", port=1),)
    assert await internet.resolver().resolve("b.example") == at("c.example", 8448, "c.example", "c.example")


async def test_an_srv_record_without_delegation(internet: Internet) -> None:
    internet.records["_matrix._tcp.b.example"] = (Address(host="host.d.example", port=1234),)
    found = await internet.resolver().resolve("b.example")
    assert found == at("host.d.example", 1234, "b.example", "b.example")


async def test_nothing_published_means_port_8448(internet: Internet) -> None:
    assert await internet.resolver().resolve("b.example") == at("b.example", 8448, "b.example", "b.example")


async def test_an_override_comes_before_everything(internet: Internet) -> None:
    internet.delegates("b.example", "c.example")
    resolver = internet.resolver(**{"b.example": "127.0.0.1", "c.example:1": "127.0.0.2"})
    assert await resolver.resolve("b.example") == at(
        "127.0.0.1", 9448, "b.example", "b.example", trusted=True
    )
    assert await resolver.resolve("c.example:1") == at(
        "127.0.0.2", 9448, "c.example", "c.example:1", trusted=True
    )
    assert resolver.as_written("b.example") == at("127.0.0.1", 9448, "b.example", "b.example", trusted=True)
    assert internet.fetched == []


def test_a_url_is_taken_as_written(internet: Internet) -> None:
    resolver = internet.resolver()
    assert resolver.as_written("b.example") == at("b.example", 443, "b.example", "b.example")
    assert resolver.as_written("b.example:99") == at("b.example", 99, "b.example", "b.example:99")


@pytest.mark.parametrize(
    "answer",
    [
        WellKnown(status=404, body=b'{"m.server": "c.example"}'),
        WellKnown(status=200, body=b"<html>"),
        WellKnown(status=200, body=b"[]"),
        WellKnown(status=200, body=b"{}"),
        WellKnown(status=200, body=b'{"m.server": 5}'),
        WellKnown(status=200, body=b'{"m.server": "https://c.example"}'),
    ],
)
async def test_an_invalid_document_is_no_delegation(internet: Internet, answer: WellKnown) -> None:
    internet.documents["b.example"] = answer
    found = await internet.resolver().resolve("b.example")
    assert found.addresses == (Address(host="b.example", port=8448),)


@pytest.mark.parametrize(
    ("cache_control", "hours"),
    [
        ("", 24),
        ("public, max-age=7200", 2),
        ('max-age = "7200"', 2),
        ("max-age=9999999999", 48),
        ("no-store", 0),
        ("no-cache, max-age=7200", 0),
    ],
)
async def test_a_delegation_is_kept_as_long_as_it_may_be(
    internet: Internet, cache_control: str, hours: int
) -> None:
    internet.delegates("b.example", "c.example", cache_control)
    resolver = internet.resolver()
    await resolver.resolve("b.example")
    if hours:
        internet.now += hours * HOUR_MS - 1
        await resolver.resolve("b.example")
        assert len(internet.fetched) == 1
        internet.now += 1
    await resolver.resolve("b.example")
    assert len(internet.fetched) == 2


async def test_a_host_that_fails_is_asked_ever_less_often_but_every_hour(internet: Internet) -> None:
    resolver = internet.resolver()
    asked_at = []
    for minute in range(6 * 60):
        before = len(internet.fetched)
        await resolver.resolve("b.example")
        if len(internet.fetched) > before:
            asked_at.append(minute)
        internet.now += 60_000
    assert asked_at == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303]


async def test_a_host_that_recovers_is_believed_and_its_failures_forgotten(internet: Internet) -> None:
    resolver = internet.resolver()
    await resolver.resolve("b.example")
    internet.delegates("b.example", "c.example", "no-store")
    internet.now += 60_000
    assert (await resolver.resolve("b.example")).tls_name == "c.example"
    del internet.documents["b.example"]
    assert (await resolver.resolve("b.example")).tls_name == "b.example"
    internet.now += 60_000
    internet.fetched.clear()
    await resolver.resolve("b.example")
    assert internet.fetched == ["b.example"]


async def test_memory_for_names_is_bounded(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_CACHED", 2)
    resolver = internet.resolver()
    for name in ("b.example", "c.example", "d.example", "c.example", "b.example"):
        await resolver.resolve(name)
    assert internet.fetched == ["b.example", "c.example", "d.example", "b.example"]


async def test_srv_targets_are_kept_in_their_order_and_prove_the_servers_name(internet: Internet) -> None:
    first, second = Address(host="one.d.example", port=1), Address(host="two.d.example", port=2)
    internet.records["_matrix._tcp.b.example"] = (first, second)
    found = await internet.resolver().resolve("b.example")
    assert found == Destination(addresses=(first, second), tls_name="b.example", host_header="b.example")


async def test_a_record_that_says_there_is_no_such_service_is_believed(internet: Internet) -> None:
    internet.records["_matrix._tcp.b.example"] = ()
    assert (await internet.resolver().resolve("b.example")).addresses == ()
