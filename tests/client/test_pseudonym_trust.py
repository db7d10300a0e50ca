"""Who must not learn who is behind a pseudonym, and who is not believed to be somebody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import openmls
import pytest

from linearized.client import (
    MemoryStorage,
    PseudonymousSession,
    UntrustedIdentity,
    new_pseudonym,
)
from linearized.client.device import CIPHERSUITE, MlsDevice
from linearized.client.identity_links import pseudonyms_in
from linearized.client.state import SavedState
from linearized.mimi.identity_links import IdentityLinkError, LinkKey, open_link, seal_link
from linearized.store.pseudonyms import PseudonymRow
from tests.client.masks import ALICE, BOB, CAROL, faults, names, pseudonym
from tests.client.support import drain
from tests.client.test_real_server import open_club
from tests.server.support import Server

# --- who must not learn, or be believed ---


async def test_who_was_removed_cannot_open_the_links_of_who_comes_later(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        carol = await pseudonym(club, a, CAROL)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        await drain(bob)
        await alice.groups.remove_users(room_id, [bob.device.owner.user_id])
        await drain(bob)
        await alice.add(room_id, [carol.handle])
        await drain(bob)
        later = pseudonyms_in(alice.device, room_id)[carol.device.owner.client_uri]
        known = bob.device.state.link_keys
        assert known.keys() == {alice.device.owner.client_uri, bob.device.owner.client_uri}
        for key in known.values():
            with pytest.raises(IdentityLinkError, match="does not open"):
                open_link(key, later)
        assert open_link(alice.device.state.link_keys[carol.device.owner.client_uri], later)


def forged(victim: PseudonymousSession, thief: PseudonymousSession) -> PseudonymousSession:
    """The thief's pseudonym with the victim's identity link in it, as far as it can be moved."""
    stolen = victim.device.state.link_keys[victim.device.owner.client_uri]
    theirs, own = victim.device.owner.pseudonym, thief.device.owner.pseudonym
    assert theirs is not None
    assert own is not None
    keys = openmls.SignatureKeyPair.generate(ciphersuite=CIPHERSUITE)
    moved = replace(own, signature_public_key=keys.public_key)
    key = bytes(range(32))
    credential = replace(
        moved, identity_link_ciphertext=seal_link(key, moved.tbs(), open_link(stolen, theirs))
    )
    client = openmls.Client.create(identity=credential.encode(), ciphersuite=CIPHERSUITE, signature_key=keys)
    state = SavedState(mls=b"", link_keys={credential.client_pseudonym: key})
    device = MlsDevice(client, state, MemoryStorage())
    return PseudonymousSession(thief.api, device, credential)


async def test_a_link_stolen_from_somebody_else_is_not_believed(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        carol = await pseudonym(club, a, CAROL)
        # Carol passes for Bob, whose link she can open.
        thief = forged(bob, carol)
        await a.node.store.delete_device(carol.device.owner.user_id, carol.device.owner.device_id)
        await new_device(a, carol)
        await thief.upload_key_packages()
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        await drain(bob)
        with pytest.raises(UntrustedIdentity):
            await alice.add(room_id, [thief.handle])
        assert await names(alice, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example"]
        # A member who adds her all the same convinces nobody.
        name = thief.device.owner.user_id
        await alice.groups.add_users(room_id, {name: await alice.groups.key_packages(room_id, name)})
        alice.device.state.link_keys[thief.device.owner.client_uri] = bytes(range(32))
        await alice.share(room_id)
        await drain(bob)
        assert await names(bob, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example", None]
        assert len(await faults(bob, room_id)) == 1


async def new_device(server: Server, session: PseudonymousSession) -> None:
    """Give a pseudonym its device again, without key packages."""
    row = server.node.store.pseudonym(session.device.owner.user_id)
    assert row is not None
    assert await server.node.store.put_pseudonym(row, session.device.owner.device_id)


async def test_false_keys_hide_nobody_and_unknown_ones_are_asked_for(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        await drain(bob)
        honest = dict(bob.device.state.link_keys)
        mine = alice.device.owner.client_uri
        alice.device.state.link_keys[mine] = bytes(32)
        await alice.share(room_id)
        await drain(bob)
        assert bob.device.state.link_keys == honest
        # One who lost the key is told again by who has it, and takes no other.
        del bob.device.state.link_keys[mine]
        assert await faults(bob, room_id) == ["nobody has told who this is"]
        await alice.share(room_id)
        await drain(bob)
        assert await names(bob, room_id) == [None, f"@{BOB}:a.example"]
        alice.device.state.link_keys[mine] = honest[mine]
        await alice.share(room_id)
        await drain(bob)
        assert await names(bob, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example"]


async def test_a_handle_of_somebody_else_than_expected_is_refused(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        room_id = await alice.create_minimal_room()
        with pytest.raises(UntrustedIdentity, match=BOB):
            await alice.add(room_id, [bob.handle], expected=[f"@{CAROL}:a.example"])
        with pytest.raises(ValueError, match="for each handle"):
            await alice.add(room_id, [bob.handle], expected=[])
        for nonsense in (
            "nonsense",
            LinkKey(client_pseudonym="mimi://a.example/d/x", key=bytes(32)).handle(),
        ):
            with pytest.raises(UntrustedIdentity):
                await alice.add(room_id, [nonsense])
        wrong_key = LinkKey(client_pseudonym=bob.device.owner.client_uri, key=bytes(32)).handle()
        with pytest.raises(UntrustedIdentity, match="does not open"):
            await alice.add(room_id, [wrong_key])
        assert await names(alice, room_id) == [f"@{ALICE}:a.example"]


async def test_a_user_is_in_a_room_under_one_pseudonym(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, account = await pseudonym(club, a, ALICE), await club.device(a, BOB)
        first = await new_pseudonym(account, MemoryStorage())
        second = await new_pseudonym(account, MemoryStorage())
        room_id = await alice.create_minimal_room(handles=[first.handle])
        with pytest.raises(UntrustedIdentity, match="another pseudonym"):
            await alice.add(room_id, [second.handle])
        # Whoever adds them all the same: the others believe one of the two.
        name = second.device.owner.user_id
        await alice.groups.add_users(room_id, {name: await alice.groups.key_packages(room_id, name)})
        uri = second.device.owner.client_uri
        alice.device.state.link_keys[uri] = second.device.state.link_keys[uri]
        assert await names(alice, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example", None]
        assert "another pseudonym" in (await faults(alice, room_id))[0]


async def test_two_devices_of_a_user_have_one_pseudonym(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, phone = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        room_id = await alice.create_minimal_room(handles=[phone.handle])
        await drain(phone)
        account, name = await club.device(a, BOB, "LAPTOP"), phone.device.owner.user_id
        laptop = await new_pseudonym(account, MemoryStorage(), of=name)
        assert laptop.device.owner.user_id == name
        await alice.add(room_id, [laptop.handle])
        for session in (alice, phone, laptop):
            await drain(session)
            assert await names(session, room_id) == [f"@{ALICE}:a.example", *[f"@{BOB}:a.example"] * 2]


async def test_two_devices_come_by_their_handles_and_one_without_stays_out(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, phone = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        account = await club.device(a, BOB, "LAPTOP")
        laptop = await new_pseudonym(account, MemoryStorage(), of=phone.device.owner.user_id)
        await new_pseudonym(account, MemoryStorage(), of=phone.device.owner.user_id)
        room_id = await alice.create_minimal_room()
        added = await alice.add(room_id, [laptop.handle, phone.handle])
        assert [real.device_id for real in added] == ["LAPTOP", "DEV"]
        assert await names(alice, room_id) == [f"@{ALICE}:a.example", *[f"@{BOB}:a.example"] * 2]


async def test_of_two_users_who_share_a_pseudonym_one_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        account, name = await club.device(a, CAROL), bob.device.owner.user_id
        # A provider that lets another of its users have Bob's pseudonym.
        row = a.node.store.pseudonym(name)
        assert row is not None
        hers_too = replace(row, owner=account.device.owner.user_id)
        put = a.node.store.put_pseudonym

        async def lenient(_row: PseudonymRow, device_id: str) -> bool:
            return await put(row, device_id)

        with monkeypatch.context() as patch:
            patch.setattr(a.node.store, "put_pseudonym", lenient)
            patch.setattr(a.node.store, "pseudonym", lambda _user_id: hers_too)
            carol = await new_pseudonym(account, MemoryStorage(), of=bob.device.owner.user_id)
        room_id = await alice.create_minimal_room()
        with pytest.raises(UntrustedIdentity, match="another user's"):
            await alice.add(room_id, [bob.handle, carol.handle])
        await alice.groups.add_users(room_id, {name: await alice.groups.key_packages(room_id, name)})
        for session in (bob, carol):
            alice.device.state.link_keys |= session.device.state.link_keys
        assert len([one for one in await names(alice, room_id) if one is not None]) == 2
        assert await faults(alice, room_id) == ["the pseudonym is another user's already"]
