"""Minimal metadata rooms between real servers: who learns who is there, and who does not."""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import openmls
import pytest

from linearized.client import (
    ALGORITHM,
    ApiError,
    CommitRefused,
    DecryptedMessage,
    EpochChanged,
    GroupLost,
    IdentitiesShared,
    KeyMaterialUnavailable,
    MemoryStorage,
    OwnMessage,
    PseudonymousSession,
    Session,
    StateFileError,
    Undecryptable,
    UntrustedIdentity,
    fetch_and_verify,
    new_pseudonym,
    open_pseudonym,
    server_keys,
)
from linearized.client.archive.keeping import Keeper
from linearized.client.device import CIPHERSUITE, MlsDevice
from linearized.client.following import Follower, Timeline
from linearized.client.identity_links import pseudonyms_in
from linearized.client.state import SavedState
from linearized.mimi.identity_links import IdentityLinkError, LinkKey, open_link, seal_link
from linearized.protocol.base64 import encode_base64
from linearized.room_check import check_room
from linearized.server.mls import OpenMls
from linearized.store.base import Role
from linearized.store.pseudonyms import PseudonymRow
from tests.client.support import drain, message, wall_clock
from tests.client.test_real_server import Club, drain_until, new_room, open_club
from tests.server import support
from tests.server.support import Server

# Names that turn up nowhere by chance.
ALICE, BOB, CAROL = "alicendrina", "bobolinkus", "carolingia"


async def pseudonym(club: Club, server: Server, localpart: str) -> PseudonymousSession:
    """A pseudonym of a user of that server."""
    return await new_pseudonym(await club.device(server, localpart), MemoryStorage())


async def names(session: PseudonymousSession, room_id: str) -> list[str | None]:
    """The real users whom a member sees, leaf by leaf."""
    clients = await session.identities(room_id)
    return [None if client.real is None else client.real.user_id for client in clients]


async def faults(session: PseudonymousSession, room_id: str) -> list[str]:
    """Why a member does not believe some, leaf by leaf."""
    return [client.fault for client in await session.identities(room_id) if client.fault is not None]


# --- what everybody sees ---


async def test_members_know_who_is_who(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        hub, other = await club.server("a.example"), await club.server("b.example")
        alice, bob = await pseudonym(club, hub, ALICE), await pseudonym(club, other, BOB)
        room_id = await alice.create_minimal_room()
        added = await alice.add(room_id, [bob.handle], expected=[f"@{BOB}:b.example"])
        assert [real.user_id for real in added] == [f"@{BOB}:b.example"]
        everybody = [f"@{ALICE}:a.example", f"@{BOB}:b.example"]
        assert await names(alice, room_id) == everybody
        await drain_until(bob, IdentitiesShared)
        assert await names(bob, room_id) == everybody
        assert (await bob.identities(room_id))[1].user_id == bob.device.owner.user_id
        await bob.send(room_id, message("hello"))
        items = await drain_until(alice, DecryptedMessage)
        (got,) = [item for item in items if isinstance(item, DecryptedMessage)]
        assert got.sender_uri == bob.device.owner.user_uri
        # What carried the keys is nobody's message.
        assert [item for item in items if isinstance(item, OwnMessage)] == []


async def test_who_comes_later_and_who_was_there_before_know_each_other(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        hub, other = await club.server("a.example"), await club.server("b.example")
        alice, bob = await pseudonym(club, hub, ALICE), await pseudonym(club, other, BOB)
        carol = await pseudonym(club, hub, CAROL)
        room_id = await alice.create_minimal_room(handles=[bob.handle], policy="moderated")
        await drain_until(bob, IdentitiesShared)
        await alice.add(room_id, [carol.handle])
        for session in (carol, bob):
            await drain_until(session, IdentitiesShared)
            assert sorted(map(str, await names(session, room_id))) == [
                f"@{ALICE}:a.example",
                f"@{BOB}:b.example",
                f"@{CAROL}:a.example",
            ]


class Wire:
    """Everything that servers were told, and by whom: by server, of each request and answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: dict[str, list[bytes]] = {}
        original = support._Wire.handle_async_request

        async def record(wire: Any, request: httpx.Request) -> httpx.Response:
            response = await original(wire, request)
            name, origin = request.headers["host"].partition(":")[0], wire._origin
            sent = [request.url.raw_path, await request.aread(), repr(request.headers).encode()]
            self.heard.setdefault(name, []).extend(sent)
            if origin:
                content = await response.aread()
                self.heard.setdefault(origin, []).append(content)
                return httpx.Response(
                    response.status_code, headers=response.headers, stream=httpx.ByteStream(content)
                )
            return response

        monkeypatch.setattr(support._Wire, "handle_async_request", record)


def stored(directory: Path, server: Server) -> Iterator[bytes]:
    """Every value in every table of a server's database."""
    (path,) = (directory / server.name).rglob("*.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - names from the schema
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


def unfolded(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """Bytes, and whatever is in them in base64 or percent-encoding, and so on inside of that."""
    yield data
    yield unquote_to_bytes(data)
    if depth == 0:
        return
    for found in re.findall(rb"[A-Za-z0-9+/_-]{16,}", data):
        text = found.translate(bytes.maketrans(b"-_", b"+/"))
        for cut in range(4):
            try:
                inner = base64.b64decode(text[cut:] + b"=" * (-len(text[cut:]) % 4))
            except binascii.Error:
                continue
            if cut == 0:
                yield from unfolded(inner, depth - 1)
            else:
                yield inner


def known_to(directory: Path, server: Server, wire: Wire) -> set[str]:
    """The real names that a server was told or keeps."""
    everything = [*stored(directory, server), *wire.heard.get(server.name, [])]
    found = set()
    for name in (ALICE, BOB, CAROL):
        if any(name.encode() in inner for data in everything for inner in unfolded(data)):
            found.add(name)
    return found


async def _talk(alice: PseudonymousSession, bob: PseudonymousSession, carol: PseudonymousSession) -> str:
    room_id = await alice.create_minimal_room(handles=[bob.handle])
    await drain_until(bob, IdentitiesShared)
    await alice.add(room_id, [carol.handle])
    await drain_until(carol, IdentitiesShared)
    for sender in (alice, bob, carol):
        await drain(sender)
        await sender.send(room_id, message("hello"))
    await bob.groups.update_keys(room_id)
    await drain_until(alice, DecryptedMessage)
    await carol.step(2000)
    return room_id


async def test_no_server_learns_the_name_of_another_servers_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    async with open_club(tmp_path) as club:
        a, b, c = [await club.server(f"{name}.example") for name in "abc"]
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, b, BOB)
        carol = await pseudonym(club, c, CAROL)
        room_id = await _talk(alice, bob, carol)
        everybody = {f"@{ALICE}:a.example", f"@{BOB}:b.example", f"@{CAROL}:c.example"}
        for session in (alice, bob, carol):
            assert set(await names(session, room_id)) == everybody
        # Each knows its own user, so the search does find names; and no other.
        assert known_to(tmp_path, a, wire) == {ALICE}
        assert known_to(tmp_path, b, wire) == {BOB}
        assert known_to(tmp_path, c, wire) == {CAROL}


async def test_in_any_other_room_the_hub_is_told_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    async with open_club(tmp_path) as club:
        a, b = await club.server("a.example"), await club.server("b.example")
        alice, bob = await club.device(a, ALICE), await club.device(b, BOB)
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        assert known_to(tmp_path, a, wire) == {ALICE, BOB}


async def test_the_log_of_such_a_room_can_be_verified(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a, b = await club.server("a.example"), await club.server("b.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, b, BOB)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        await drain_until(bob, IdentitiesShared)
        await bob.send(room_id, message("hello"))
        keys = server_keys(await alice.api.server_keys())
        read = await fetch_and_verify(alice.api, room_id, lambda name, key_id: keys.get((name, key_id)))
        report = check_room(
            a.node.store,
            room_id,
            keys=lambda name, key_id: keys.get((name, key_id)),
            mls=OpenMls(wall_clock),
        )
        assert (report.entries, report.leaves, report.commits) == (read.entries, 2, read.commits)


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


# --- a pseudonym is one user's, and for one room ---


async def test_a_pseudonym_is_for_one_room(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a, b = await club.server("a.example"), await club.server("b.example")
        account, bob = await club.device(a, ALICE), await pseudonym(club, b, BOB)
        alice = await new_pseudonym(account, MemoryStorage())
        await alice.create_minimal_room(handles=[bob.handle])
        with pytest.raises(ApiError, match="another room"):
            await alice.create_minimal_room()
        again = await new_pseudonym(account, MemoryStorage())
        elsewhere = await again.create_minimal_room()
        with pytest.raises(KeyMaterialUnavailable):
            await again.add(elsewhere, [bob.handle])
        with pytest.raises(ApiError, match="another room"):
            await alice.api.join(elsewhere)
        assert await names(again, elsewhere) == [f"@{ALICE}:a.example"]


async def test_a_pseudonym_is_refused_in_an_ordinary_room_and_an_account_in_a_minimal_one(
    tmp_path: Path,
) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        account, carol = await club.device(a, ALICE), await club.device(a, CAROL)
        alice, bob = await new_pseudonym(account, MemoryStorage()), await pseudonym(club, a, BOB)
        room_id = await new_room(account)
        with pytest.raises(CommitRefused, match="minimal metadata room"):
            await account.groups.invite(room_id, [bob.device.owner.user_id])
        minimal = await alice.create_minimal_room()
        with pytest.raises(CommitRefused, match="pseudonyms"):
            await alice.groups.invite(minimal, [carol.device.owner.user_id])
        with pytest.raises(UntrustedIdentity):
            await alice.add(minimal, [_handle_of(carol)])


def _handle_of(session: Session) -> str:
    return LinkKey(client_pseudonym=session.device.owner.client_uri, key=bytes(32)).handle()


# --- keeping ---


async def test_a_pseudonym_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        account, bob = await club.device(a, ALICE), await pseudonym(club, a, BOB)
        storage = MemoryStorage()
        alice = await new_pseudonym(account, storage)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        again = open_pseudonym(account, MemoryStorage(storage.data))
        assert again.handle == alice.handle
        assert await names(again, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example"]
        with pytest.raises(StateFileError, match="already"):
            await new_pseudonym(account, storage)
        for other in (MemoryStorage(), _storage_of(account)):
            with pytest.raises(StateFileError, match="no pseudonym"):
                open_pseudonym(account, other)
        listed = await account.api.pseudonyms()
        unused = await new_pseudonym(account, MemoryStorage())
        await account.api.forget_pseudonym(unused.device.owner.user_id)
        assert await account.api.pseudonyms() == listed
        assert [(row["user_id"], row["room_id"]) for row in listed] == [(alice.device.owner.user_id, room_id)]


def _storage_of(session: Session) -> MemoryStorage:
    storage = MemoryStorage()
    session.device._storage = storage
    session.device.save()
    return storage


async def test_who_was_added_is_told_although_the_adder_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        account, bob = await club.device(a, ALICE), await pseudonym(club, a, BOB)
        storage = MemoryStorage()
        alice = await new_pseudonym(account, storage)
        room_id = await alice.create_minimal_room()

        async def interrupted(_session: object, _room_id: str) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(PseudonymousSession, "share", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await alice.add(room_id, [bob.handle])
        await drain(bob)
        assert await names(bob, room_id) == [None, f"@{BOB}:a.example"]
        again = open_pseudonym(account, MemoryStorage(storage.data))
        await again.tidy()
        assert again.device.state.unshared == []
        await drain(bob)
        assert await names(bob, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example"]


async def test_who_comes_back_by_themself_is_told_who_is_there(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        carol = await pseudonym(club, a, CAROL)
        room_id = await alice.create_minimal_room(handles=[bob.handle, carol.handle])
        for session in (alice, bob, carol):
            await drain(session)
        del bob.device.state.link_keys[alice.device.owner.client_uri]
        await bob.groups.join(room_id)
        for session in (alice, bob, carol):
            await drain(session)
        owing = [session.device.state.unshared for session in (alice, bob, carol)]
        assert owing == [[room_id], [room_id], []]
        for session in (bob, alice):
            await session.tidy()
        for session in (bob, carol):
            await drain(session)
            assert None not in await names(session, room_id)
            assert session.device.state.unshared == []


async def test_a_device_whose_leaf_another_copy_of_it_took_is_out(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        account, bob = await club.device(a, ALICE), await pseudonym(club, a, BOB)
        storage = MemoryStorage()
        alice = await new_pseudonym(account, storage)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        copy = open_pseudonym(account, MemoryStorage(storage.data))
        await copy.groups.join(room_id)
        items = await drain(alice)
        assert [item.removed for item in items if isinstance(item, GroupLost)] == [True]
        assert await alice.identities(room_id) == []
        await copy.tidy()
        await drain(bob)
        assert await names(bob, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example"]


async def test_a_room_that_cannot_be_told_now_does_not_keep_a_session_from_following(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        await drain(bob)
        bob.device.owe_link_keys(room_id)
        await bob.groups.leave(room_id)
        await bob.tidy()
        assert bob.device.state.unshared == [room_id]


async def test_a_credential_in_a_leaf_that_is_not_its_own_is_nobodys(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a = await club.server("a.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, a, BOB)
        room_id = await alice.create_minimal_room(handles=[bob.handle])
        await drain(bob)
        # What a hub that helps Carol could let in: Bob's whole credential with a key of hers, and an account.
        account = openmls.Client.create(identity=b"mimi://a.example/d/carolingia/DEV")
        stolen = openmls.Client.create(identity=bob.device.client.identity)
        now = wall_clock() // 1000
        packages = [client.key_package(now=now, lifetime=3600) for client in (stolen, account)]
        group = alice.device.group(room_id)
        bundle = group.commit(add=packages)
        group.merge_pending_commit()
        bob.device.process(room_id, bundle.commit, accepted_ms=wall_clock())
        assert await names(bob, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:a.example", None, None]
        other_key, no_pseudonym = await faults(bob, room_id)
        assert "another signature key" in other_key
        assert "no pseudonymous credential" in no_pseudonym
        assert bundle.welcome is not None
        theirs = stolen.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
        ciphertext = encode_base64(theirs.encrypt(message("I am Bob").encode()))
        event = {
            "type": "m.room.encrypted",
            "event_id": "$forged",
            "sender": bob.device.owner.user_id,
            "origin_server_ts": wall_clock(),
            "content": {"algorithm": ALGORITHM, "ciphertext": ciphertext},
        }
        timeline = Timeline(room_id=room_id, events=[event], limited=False, prev_batch=None)
        Follower(bob.device, Keeper(bob.device, random=bytes)).apply({}, [timeline], "next")
        (item,) = [one for one in bob.device.state.inbox if one.event_id == "$forged"]
        assert isinstance(item, Undecryptable)
        assert "somebody else's pseudonym" in item.reason


async def test_who_was_invited_by_an_event_and_comes_by_themself_is_known(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        a, b = await club.server("a.example"), await club.server("b.example")
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, b, BOB)
        room_id = await alice.create_minimal_room()
        await alice.api.invite(room_id, bob.device.owner.user_id)
        await bob.api.join(room_id)
        await bob.groups.join(room_id)
        assert await names(bob, room_id) == [None, f"@{BOB}:b.example"]
        await drain_until(alice, EpochChanged)
        for session in (bob, alice):
            await session.tidy()
        for session, from_other in ((alice, bob), (bob, alice)):
            while from_other.device.owner.client_uri not in session.device.state.link_keys:
                await drain_until(session, IdentitiesShared)
            assert await names(session, room_id) == [f"@{ALICE}:a.example", f"@{BOB}:b.example"]
        # Its provider takes part in Linearized Matrix and holds the hub to what the room is.
        row = b.node.store.room(room_id)
        assert row is not None
        assert row.role is Role.PARTICIPANT
