"""Clients with X.509 credentials at two providers: certified by one, let in by the other."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import openmls
import pytest
from cryptography.x509 import Certificate

from linearized.client import (
    ApiError,
    CommitRefused,
    DecryptedMessage,
    EpochChanged,
    Joined,
    JoinRefused,
    KeyMaterialUnavailable,
    MemoryStorage,
    MlsDevice,
    ProviderApi,
    Session,
    check_certificates,
)
from linearized.exceptions import CertificateError, IdentifierError
from linearized.mimi.commit_parts import leaf_credential
from linearized.server.opening import system_clock
from tests.certificates import Authority, public_key
from tests.server.support import PASSWORD, Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in

BOB, PHONE = "@bob:b.example", "mimi://b.example/d/bob/PHONE"


def now() -> int:
    return system_clock() // 1000


@pytest.fixture
def authority() -> Authority:
    return Authority.new(now())


def trust(*authorities: Authority) -> dict[str, tuple[Certificate, ...]]:
    return {"b.example": tuple(each.certificate for each in authorities)}


def certified_device(
    authority: Authority, uri: str = PHONE, until: timedelta = timedelta(days=1)
) -> MlsDevice:
    keys = openmls.SignatureKeyPair.generate()
    chain = [authority.certify(public_key(keys.public_key), uri, until=until)]
    return MlsDevice.open(
        MemoryStorage(), user_id=BOB, device_id="PHONE", certificates=chain, signature_key=keys
    )


@asynccontextmanager
async def certified(server: Server, user_id: str, device: MlsDevice) -> AsyncIterator[Session]:
    async with server.http() as http:
        api = ProviderApi(
            f"https://{server.name}", token=None, http=http, clock=system_clock, ids=secrets.token_urlsafe
        )
        login = await api.login(user_id, PASSWORD, device_id="PHONE")
        yield Session(api.with_login(login), device)


async def test_a_certified_client_joins_sends_and_receives_beside_one_without(
    tmp_path: Path, authority: Authority
) -> None:
    network, settings = Network(), trust(authority)
    async with (
        running_server("a.example", tmp_path, network, authorities=settings) as a,
        running_server("b.example", tmp_path, network, authorities=settings) as b,
        signed_in(a, await a.user("alice")) as alice,
        certified(b, await b.user("bob"), certified_device(authority)) as bob,
    ):
        await a.user("anna")
        await bob.upload_key_packages()
        room_id = await encrypted_room(alice)
        await alice.groups.invite(room_id, [BOB])
        await received(bob, Joined)
        await say(alice, room_id, "Hello Bob")
        assert bodies(await received(bob, DecryptedMessage)) == ["Hello Bob"]
        await say(bob, room_id, "Hello Alice")
        (message,) = await received(alice, DecryptedMessage)
        assert isinstance(message, DecryptedMessage)
        assert message.sender_uri == "mimi://b.example/u/bob"

        owners = {owner.user_id: owner for owner in alice.device.members(room_id).values()}
        check_certificates(owners[BOB], [authority.certificate], now=now())
        for owner, roots in (
            (owners[BOB], []),
            (owners[BOB], [Authority.new(now()).certificate]),
            (owners["@alice:a.example"], [authority.certificate]),
        ):
            with pytest.raises(CertificateError):
                check_certificates(owner, roots, now=now())

        # With its state its certificate is lost, and it comes back with another for a new key.
        async with certified(b, BOB, certified_device(authority)) as again:
            await again.groups.join(room_id)
            await received(alice, EpochChanged)
            await say(again, room_id, "Here again")
            assert bodies(await received(alice, DecryptedMessage)) == ["Here again"]
            with pytest.raises(KeyMaterialUnavailable):  # asked for in the name of the certificate
                await again.groups.key_packages(room_id, "@anna:a.example")
        async with certified(b, BOB, certified_device(authority, until=timedelta(days=-0.5))) as late:
            with pytest.raises(JoinRefused):
                await late.groups.join(room_id)
            with pytest.raises(ApiError, match="credential"):
                await late.groups.key_packages(room_id, "@anna:a.example")
        assert len(alice.device.members(room_id)) == 2


async def test_a_client_renews_its_certificates_where_it_is(tmp_path: Path, authority: Authority) -> None:
    network = Network()
    other = Authority.new(now(), "Clients of c.example")
    async with (
        running_server("a.example", tmp_path, network, authorities=trust(authority)) as a,
        running_server("b.example", tmp_path, network, authorities=trust(authority, other)) as b,
        signed_in(a, await a.user("alice")) as alice,
        certified(b, await b.user("bob"), certified_device(authority)) as bob,
    ):
        await bob.upload_key_packages()
        room_id = await encrypted_room(alice)
        await alice.groups.invite(room_id, [BOB])
        await received(bob, Joined)
        key = public_key(bob.device.client.signature_key)
        for chain in (
            [authority.certify(key, "mimi://b.example/d/bob/LAPTOP")],
            [authority.certify(public_key(openmls.SignatureKeyPair.generate().public_key), PHONE)],
        ):
            with pytest.raises(IdentifierError, match="another"):
                await bob.renew_certificates(chain)
        chain = [authority.certify(key, PHONE, until=timedelta(days=3))]
        await bob.upload_key_packages()
        stock = len(b.node.store.unclaimed_key_packages(BOB, "PHONE"))
        await bob.renew_certificates(chain)
        # Whoever adds him next does so with the new one: the old packages, of last resort too, are gone.
        stored = b.node.store.unclaimed_key_packages(BOB, "PHONE")
        assert len(stored) == stock
        assert {leaf_credential(row.key_package) for row in stored} == {bob.device.client.credential}
        await bob.renew_certificates(chain)
        assert len(b.node.store.unclaimed_key_packages(BOB, "PHONE")) == len(stored)
        await received(alice, EpochChanged)
        (leaf,) = (leaf for leaf in alice.device.group(room_id).members() if leaf.certificates)
        assert leaf.certificates == tuple(chain)
        owners = {owner.user_id: owner for owner in alice.device.members(room_id).values()}
        check_certificates(owners[BOB], [authority.certificate], now=now() + 2 * 24 * 3600)
        assert bob.device.not_renewed() == []
        await say(bob, room_id, "Still here")
        assert bodies(await received(alice, DecryptedMessage)) == ["Still here"]
        # What the provider does not take nobody is shown, and what the hub does not take is left to do.
        with pytest.raises(ApiError, match="keys"):
            await bob.renew_certificates([Authority.new(now()).certify(key, PHONE)])
        with pytest.raises(CommitRefused):
            await bob.renew_certificates([other.certify(key, PHONE)])
        assert bob.device.not_renewed() == [room_id]


async def test_a_hub_lets_nobody_in_whose_authority_its_operator_does_not_trust(
    tmp_path: Path, authority: Authority
) -> None:
    network = Network()
    other = Authority.new(now(), "Clients of c.example")
    async with (
        running_server("a.example", tmp_path, network, authorities={"c.example": (other.certificate,)}) as a,
        running_server("b.example", tmp_path, network, authorities=trust(authority, other)) as b,
        signed_in(a, await a.user("alice")) as alice,
        certified(b, await b.user("bob"), certified_device(other)) as bob,
    ):
        await bob.upload_key_packages()
        room_id = await encrypted_room(alice)
        with pytest.raises(CommitRefused):
            await alice.groups.invite(room_id, [BOB])


async def test_a_provider_takes_only_key_packages_that_others_can_use(
    tmp_path: Path, authority: Authority
) -> None:
    network = Network()
    async with running_server("b.example", tmp_path, network, authorities=trust(authority)) as b:
        bob = await b.user("bob")
        for device in (
            certified_device(Authority.new(now())),
            certified_device(authority, until=timedelta(days=-0.5)),
        ):
            async with certified(b, bob, device) as session:
                with pytest.raises(ApiError, match="does not hold"):
                    await session.upload_key_packages()


async def test_a_certificate_that_is_another_devices_makes_no_device(authority: Authority) -> None:
    with pytest.raises(IdentifierError, match="another client"):
        certified_device(authority, "mimi://b.example/d/bob/LAPTOP")
