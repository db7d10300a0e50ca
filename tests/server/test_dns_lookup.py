"""DNS questions put to a server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
from dns.asyncresolver import Resolver

from linearized.config import Address
from linearized.server import dns_lookup
from linearized.server.dns_lookup import MAX_TARGETS, Dns, LookupFailed

from .dns_support import Zone, dns_server


@pytest.fixture
def zone() -> Zone:
    return Zone()


@pytest.fixture
async def names(zone: Zone) -> AsyncIterator[Dns]:
    async with dns_server(zone) as address:
        yield Dns([address])


async def test_a_host_has_the_addresses_of_both_families(zone: Zone, names: Dns) -> None:
    zone.records["b.example", "A"] = ["192.0.2.1", "192.0.2.2"]
    zone.records["b.example", "AAAA"] = ["2001:db8::1"]
    found = await names.addresses("b.example")
    assert set(found) == {ip_address("192.0.2.1"), ip_address("192.0.2.2"), ip_address("2001:db8::1")}


async def test_an_ip_literal_is_its_own_address_and_asks_nobody(zone: Zone, names: Dns) -> None:
    assert await names.addresses("127.0.0.1") == [ip_address("127.0.0.1")]
    assert await names.addresses("::1") == [ip_address("::1")]
    assert zone.asked == []


async def test_localhost_is_here_and_asks_nobody(zone: Zone, names: Dns) -> None:
    for name in ("localhost", "LocalHost", "a.localhost"):
        assert await names.addresses(name) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert zone.asked == []


async def test_an_answer_is_kept_as_long_as_it_says(zone: Zone, names: Dns) -> None:
    zone.records["b.example", "A"] = ["192.0.2.1"]
    for _ in range(3):
        await names.addresses("b.example")
    assert len(zone.asked) == 2  # one for each family


@pytest.mark.parametrize("name", ["absent.example", "empty.example", "b..example", "x" * 64 + ".example"])
async def test_a_host_without_addresses_cannot_be_looked_up(zone: Zone, names: Dns, name: str) -> None:
    zone.records["empty.example", "TXT"] = ['"nothing"']
    with pytest.raises(LookupFailed, match="has no address"):
        await names.addresses(name)


async def test_a_silent_resolver_is_given_up(zone: Zone, names: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_lookup, "LOOKUP_SECONDS", 0.05)
    zone.silent = True
    with pytest.raises(LookupFailed, match="LifetimeTimeout"):
        await names.addresses("b.example")
    assert await names.srv("_matrix._tcp.b.example") is None


async def test_srv_targets_come_by_priority(zone: Zone, names: Dns) -> None:
    zone.records["_matrix._tcp.b.example", "SRV"] = ["20 0 2 two.example.", "10 0 1 one.example."]
    assert await names.srv("_matrix._tcp.b.example") == (
        Address(host="one.example", port=1),
        Address(host="two.example", port=2),
    )


async def test_the_root_as_target_says_that_there_is_no_such_service(zone: Zone, names: Dns) -> None:
    zone.records["_matrix._tcp.b.example", "SRV"] = ["0 0 0 ."]
    assert await names.srv("_matrix._tcp.b.example") == ()


async def test_no_record_is_none(names: Dns) -> None:
    assert await names.srv("_matrix._tcp.b.example") is None


async def test_a_name_too_long_for_dns_has_no_record(names: Dns) -> None:
    assert await names.srv("_matrix._tcp." + "x" * 70 + ".example") is None


async def test_the_number_of_targets_is_bounded(zone: Zone, names: Dns) -> None:
    zone.records["_matrix._tcp.b.example", "SRV"] = [f"{n} 0 1 h{n}.example." for n in range(12)]
    found = await names.srv("_matrix._tcp.b.example")
    assert found is not None
    assert len(found) == MAX_TARGETS


def test_without_nameservers_of_ones_own_the_systems_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[object] = []
    monkeypatch.setattr(Resolver, "read_resolv_conf", lambda _self, path: configured.append(path))
    Dns()._resolver()
    assert configured == ["/etc/resolv.conf"]
