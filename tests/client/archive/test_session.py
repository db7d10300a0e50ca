"""Archives from one device to the next, against the real server."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from linearized.client import (
    ApiError,
    ArchivedMessage,
    ArchiveRefused,
    ArchiveRequested,
    ArchiveShared,
    ArchiveStopped,
    Item,
    MlsDevice,
    Session,
    UntrustedAnswer,
)
from linearized.client.archive import keeping, sharing
from linearized.client.archive import session as module
from linearized.client.archive.records import Content
from linearized.client.calls.archives import StoredRecord
from linearized.client.state import SavedState
from linearized.mimi.content import Expiration, delete
from linearized.server.clients import archives as server_side
from tests.client.archive.support import household, read, stored
from tests.client.support import drain, message
from tests.client.test_real_server import new_room

BOB = "@bob:a.example"


def request_of(session: Session) -> tuple[ArchiveRequested, str]:
    """A request of a device, as it would come, and its code."""
    secret = bytes(sharing.SECRET_BYTES)
    _, content = sharing.new_request(session.device, secret=secret)
    return sharing.read_request(content), sharing.code_of(secret)


async def test_a_new_device_reads_what_was_said_before_it_came(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("one", "two")
        await home.old.send(home.room_id, message("my own"))
        await drain(home.old)
        new = await home.new_device()
        with pytest.raises(ArchiveRefused, match="no device"):
            await read(new, home.room_id)
        await home.hand_over(new)
        assert await read(new, home.room_id) == ["one", "two", "my own"]
        await home.say("three")
        assert (await read(new, home.room_id))[-1] == "three"
        async with aclosing(new.archive.read(home.room_id)) as archived:
            first = await anext(archived)
        assert isinstance(first, ArchivedMessage)
        assert (first.sender_uri, first.client_uri) == (
            "mimi://a.example/u/alice",
            "mimi://a.example/d/alice/DEV",
        )
        entry = home.server.node.store.entry_by_id(first.event_id)
        assert entry is not None
        assert (first.seq, first.timestamp) == (entry.seq, entry.origin_server_ts)
        assert len(first.message_id) == 32


async def test_nothing_is_kept_unless_the_user_wants_it(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        home.old.device.state.archive.enabled = False
        await home.say("unsaved")
        assert await home.old.api.archives() == []
        home.old.archive.enable()
        await home.say("saved")
        (listed,) = await home.old.api.archives()
        assert (listed["room_id"], listed["records"]) == (home.room_id, 1)
        assert await read(home.old, home.room_id) == ["saved"]


async def test_what_was_said_before_the_user_came_is_not_in_it(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        other = await new_room(home.alice)
        await home.alice.send(other, message("before bob"))
        await home.alice.groups.invite(other, [BOB])
        await home.alice.send(other, message("with bob"))
        await drain(home.old)
        assert await read(home.old, other) == ["with bob"]


async def test_the_provider_learns_nothing_of_what_was_said(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("a most private remark")
        database = stored(tmp_path)
        assert home.room_id.encode() in database
        assert b"a most private remark" not in database
        assert home.old.device.state.archive.own[home.room_id].key not in database


async def test_another_users_device_is_refused(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("for bob")
        await home.alice.archive.ask()
        assert not [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        with pytest.raises(ArchiveRefused, match="another user's"):
            await home.old.archive.approve(*request_of(home.alice))


async def test_a_device_outside_the_group_is_refused(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("for members")
        outside = await home.club.device(home.server, "bob", "OUTSIDE")
        code = await outside.archive.ask()
        (asked,) = [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        with pytest.raises(ArchiveRefused, match="no room"):
            await home.old.archive.approve(asked, code)


async def test_a_code_that_is_not_the_new_devices_is_refused(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("secret")
        new = await home.new_device()
        code = await new.archive.ask()
        (asked,) = [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        wrong = ("B" if code[0] == "A" else "A") + code[1:]
        for typed in (wrong, "", code[:-1], "not base32!", f"{code}-{code}"):
            with pytest.raises(ArchiveRefused, match="code"):
                await home.old.archive.approve(asked, typed)
        approval = await home.old.archive.approve(asked, code.lower().replace("-", " "))
        assert (approval.given, approval.refused) == ((home.room_id,), {})


async def test_a_request_under_another_key_is_refused(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("secret")
        new = await home.new_device()
        code = await new.archive.ask()
        (asked,) = [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        with pytest.raises(ArchiveRefused, match="signed"):
            await home.old.archive.approve(replace(asked, signature=bytes(64)), code)
        # The same name with another key: a leaf of the group has to have the key.
        impostor = await home.club.device(home.server, "bob", "LAPTOP")
        code = await impostor.archive.ask()
        (asked,) = [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        with pytest.raises(ArchiveRefused, match="no room"):
            await home.old.archive.approve(asked, code)


async def test_the_old_device_does_not_approve_itself(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("secret")
        await home.old.archive.ask()
        assert not [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        with pytest.raises(ArchiveRefused, match="our own"):
            await home.old.archive.approve(*request_of(home.old))


class Lying:
    """Changes what the provider says of records."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self._true = session.api.kept_records
        self.records: list[StoredRecord] = []
        monkeypatch.setattr(session.api, "kept_records", self)

    async def learn(self, session: Session, room_id: str) -> list[StoredRecord]:
        (archive,) = session.device.state.archive.keys(room_id)
        self.records = await self._true(room_id, archive.name, after=0)
        return self.records

    async def __call__(self, room_id: str, archive: bytes, *, after: int) -> list[StoredRecord]:
        return [record for record in self.records if record.number > after]


async def test_a_lying_provider_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with household(tmp_path) as home:
        await home.say("one", "two", "three")
        lying = Lying(home.old, monkeypatch)
        one, two, three = await lying.learn(home.old, home.room_id)
        assert await read(home.old, home.room_id) == ["one", "two", "three"]
        assert two.sealed is not None
        flipped = two.sealed[:-1] + bytes([two.sealed[-1] ^ 1])
        for records, expected in [
            ([one, replace(two, sealed=flipped), three], ["one", "tampered 1", "three"]),
            ([one, replace(two, sealed=b""), three], ["one", "tampered 1", "three"]),
            (
                [replace(one, sealed=two.sealed), replace(two, sealed=one.sealed), three],
                ["tampered 1", "tampered 1", "three"],
            ),
            (
                [replace(two, number=1), replace(one, number=2), three],
                ["tampered 1", "tampered 1", "three"],
            ),
            ([one, replace(two, seq=three.seq), three], ["one", "tampered 1", "three"]),
            ([one, replace(two, seq=999), three], ["one", "tampered 1", "three"]),
            ([one, replace(two, event_id=one.event_id), three], ["one", "tampered 1", "three"]),
            ([one, replace(two, sealed=None), three], ["one", "withheld 1", "three"]),
            ([one, replace(two, sealed=None, release=bytes(32)), three], ["one", "tampered 1", "three"]),
            ([one, replace(two, sealed=None, expires_ts=1), three], ["one", "tampered 1", "three"]),
            ([one, three], ["withheld 1", "one", "three"]),
            ([one], ["one", "withheld 2"]),
            ([], ["withheld 3"]),
        ]:
            lying.records = records
            assert sorted(await read(home.old, home.room_id)) == sorted(expected)
        lying.records = [two, one]
        with pytest.raises(UntrustedAnswer, match="out of order"):
            await read(home.old, home.room_id)


async def test_another_entry_in_the_log_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with household(tmp_path) as home:
        await home.say("one", "two")
        true = home.old.api.log

        async def other(room_id: str, *, after: int, limit: int = 50) -> object:
            page = await true(room_id, after=after, limit=limit)
            first, second = page.pdus[0], page.pdus[1]
            return replace(page, pdus=[second, first, *page.pdus[2:]])

        monkeypatch.setattr(home.old.api, "log", other)
        assert await read(home.old, home.room_id) == ["tampered 1", "tampered 1"]

        async def shorter(room_id: str, *, after: int, limit: int = 50) -> object:
            page = await true(room_id, after=after, limit=limit)
            return replace(page, pdus=[])

        monkeypatch.setattr(home.old.api, "log", shorter)
        assert await read(home.old, home.room_id) == ["tampered 1", "tampered 1"]


async def test_in_a_franked_room_the_ciphertext_itself_contradicts_a_forged_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with household(tmp_path) as home:
        assert home.old.device.is_franked(home.room_id)
        forged = home.alice.device.prepare(home.room_id, message("forged")).encode()
        true = keeping._content

        def content(device: MlsDevice, item: Item) -> Content:
            return replace(true(device, item), payload=forged)

        monkeypatch.setattr(keeping, "_content", content)
        await home.say("true")
        assert await read(home.old, home.room_id) == ["tampered 1"]

        def sender(device: MlsDevice, item: Item) -> Content:
            return replace(true(device, item), client_uri="mimi://a.example/d/carol/DEV")

        monkeypatch.setattr(keeping, "_content", sender)
        await home.say("mine")
        assert await read(home.old, home.room_id) == ["tampered 1", "tampered 1"]


async def test_what_its_sender_takes_back_is_gone_and_nobody_else_can_take_it_back(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        sent = await home.alice.send(home.room_id, message("regretted"))
        kept = await home.alice.send(home.room_id, message("kept"))
        await drain(home.old)
        await home.old.send(home.room_id, delete(kept.message_id, salt=bytes(16)))
        await home.alice.send(home.room_id, delete(sent.message_id, salt=bytes(15) + b"\x01"))
        await drain(home.old)
        assert await read(home.old, home.room_id) == ["deleted 1", "kept", "nothing", "nothing"]
        (record, *_) = await home.old.api.kept_records(
            home.room_id, home.old.device.state.archive.own[home.room_id].name, after=0
        )
        assert record.sealed is None


async def test_what_expires_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with household(tmp_path) as home:
        now = home.old.api.clock()
        soon = replace(message("soon"), expires=Expiration(relative=False, time=now // 1000 + 60))
        later = replace(message("later"), expires=Expiration(relative=True, time=3600))
        await home.alice.send(home.room_id, soon)
        await home.alice.send(home.room_id, later)
        await home.say("for ever")
        assert await read(home.old, home.room_id) == ["soon", "later", "for ever"]
        monkeypatch.setattr(home.old.api, "clock", lambda: now + 61_000)
        assert await read(home.old, home.room_id) == ["expired 1", "later", "for ever"]
        monkeypatch.setattr(home.old.api, "clock", lambda: now + 4_000_000)
        assert await read(home.old, home.room_id) == ["expired 1", "expired 1", "for ever"]


async def test_a_device_that_has_the_key_and_leaves_does_not_read_on(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("before")
        new = await home.new_device()
        await home.hand_over(new)
        (before,) = home.old.device.state.archive.keys(home.room_id)
        await home.remove_device("LAPTOP")
        await home.say("after")
        known, after = home.old.device.state.archive.keys(home.room_id)
        assert (known.name, after.name != before.name, after.key != before.key) == (before.name, True, True)
        assert await read(home.old, home.room_id) == ["before", "after"]


async def test_a_room_whose_policy_forbids_it_is_not_kept_and_what_was_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with household(tmp_path) as home:
        await home.say("allowed")
        new = await home.new_device()
        code = await new.archive.ask()
        (asked,) = [item for item in await drain(home.old) if isinstance(item, ArchiveRequested)]
        for place in (keeping, module):
            monkeypatch.setattr(place, "permission", lambda *_: keeping.Permission(allowed=False))
        with pytest.raises(ArchiveRefused, match="no room"):
            await home.old.archive.approve(asked, code)
        stopped = [item for item in await home.say("forbidden") if isinstance(item, ArchiveStopped)]
        assert [item.room_id for item in stopped] == [home.room_id]
        assert await home.old.api.archives() == []
        assert not [item for item in await home.say("still") if isinstance(item, ArchiveStopped)]


async def test_a_room_is_kept_for_as_long_as_its_policy_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with household(tmp_path) as home:
        granted = keeping.Permission(allowed=True, seconds=60)
        monkeypatch.setattr(keeping, "permission", lambda *_: granted)
        await home.say("for a minute")
        assert await read(home.old, home.room_id) == ["for a minute"]
        now = home.old.api.clock()
        monkeypatch.setattr(home.old.api, "clock", lambda: now + 61_000)
        assert await read(home.old, home.room_id) == ["expired 1"]


async def test_a_provider_that_takes_no_more_ends_it_and_what_is_there_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with household(tmp_path) as home:
        await home.say("fits")
        monkeypatch.setattr(server_side, "MAX_RECORDS", 1)
        stopped = [item for item in await home.say("too much") if isinstance(item, ArchiveStopped)]
        assert [item.reason for item in stopped] == ["the provider takes no more"]
        await home.say("not tried")
        assert home.old.device.state.archive.waiting == []
        assert await read(home.old, home.room_id) == ["fits"]
        monkeypatch.setattr(server_side, "MAX_RECORDS", 100)
        home.old.archive.enable()
        await home.say("again")
        assert await read(home.old, home.room_id) == ["fits", "again"]


async def test_records_wait_while_the_provider_is_away_and_survive_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with household(tmp_path) as home:

        async def away(*_: object) -> None:
            raise ApiError(502, "M_UNKNOWN", "away")

        monkeypatch.setattr(home.old.api, "keep_records", away)
        await home.say("one")
        saved = SavedState.decode(home.old.device.state.encode())
        assert saved.archive == home.old.device.state.archive
        assert [record.number for record in saved.archive.waiting] == [1]
        monkeypatch.undo()
        again = Session(home.old.api, MlsDevice(home.old.device.client, saved, home.old.device._storage))
        await home.alice.send(home.room_id, message("two"))
        await drain(again)
        assert again.device.state.archive.waiting == []
        assert await read(again, home.room_id) == ["one", "two"]


async def test_too_much_that_waits_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with household(tmp_path) as home:
        monkeypatch.setattr(keeping, "MAX_WAITING", 1)
        for body in ("kept", "dropped"):
            await home.alice.send(home.room_id, message(body))
        await drain(home.old)
        await home.say("another archive")
        assert len(home.old.device.state.archive.keys(home.room_id)) == 2
        assert await read(home.old, home.room_id) == ["kept", "another archive"]


async def test_many_records_go_in_several_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with household(tmp_path) as home:
        monkeypatch.setattr(module, "RECORDS_AT_ONCE", 2)
        for body in ("a", "b", "c"):
            await home.alice.send(home.room_id, message(body))
        await drain(home.old)
        monkeypatch.setattr(module, "BYTES_AT_ONCE", 1)
        for body in ("d", "e"):
            await home.alice.send(home.room_id, message(body))
        await drain(home.old)
        assert await read(home.old, home.room_id) == ["a", "b", "c", "d", "e"]


async def test_disabling_forgets_everything(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("gone")
        await home.old.archive.disable()
        assert not home.old.archive.enabled
        assert await home.old.api.archives() == []
        await home.say("not kept")
        assert await home.old.api.archives() == []


async def test_one_room_can_be_forgotten(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("gone")
        await home.old.archive.forget(home.room_id)
        assert await home.old.api.archives() == []
        await home.say("new")
        assert await read(home.old, home.room_id) == ["new"]


async def test_an_archive_that_another_device_had_forgotten_is_begun_anew(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("gone")
        new = await home.new_device()
        await new.archive.disable()
        await home.say("lost with it")
        await home.say("new")
        assert await read(home.old, home.room_id) == ["new"]


async def test_two_devices_archives_are_one_history(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("old only")
        new = await home.new_device()
        await home.hand_over(new)
        new.archive.enable()
        await home.say("both")
        await drain(new)
        third = await home.new_device("TABLET")
        await drain(new)
        code = await third.archive.ask()
        (asked,) = [item for item in await drain(new) if isinstance(item, ArchiveRequested)]
        await new.archive.approve(asked, code)
        shared = [item for item in await drain(third) if isinstance(item, ArchiveShared)]
        assert [item.client_uri for item in shared] == ["mimi://a.example/d/bob/LAPTOP"]
        assert len(third.device.state.archive.keys(home.room_id)) == 2
        assert await read(third, home.room_id) == ["old only", "both"]


async def test_what_the_old_device_could_not_read_is_a_gap_with_that_reason(tmp_path: Path) -> None:
    async with household(tmp_path) as home:
        await home.say("readable")
        await home.send_nonsense()
        await home.say("readable again")
        assert await read(home.old, home.room_id) == ["readable", "unreadable 1", "readable again"]
