"""Minimal metadata rooms between real servers: who learns who is there, and who does not."""

from __future__ import annotations

from pathlib import Path

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
from linearized.client.following import Follower, Timeline
from linearized.mimi.identity_links import LinkKey
from linearized.protocol.base64 import encode_base64
from linearized.room_check import check_room
from linearized.server.mls import OpenMls
from linearized.store.base import Role
from tests.client.masks import ALICE, BOB, CAROL, faults, names, pseudonym
from tests.client.support import drain, message, wall_clock
from tests.client.test_real_server import drain_until, new_room, open_club

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
