"""The part of the contract about what is kept for accounts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import StoreError
from linearized.store.base import (
    REPLY_DAYS,
    DeviceRow,
    MediaRow,
    Reply,
    RoomAppend,
    ServerKeyRow,
    Store,
    ToDeviceRow,
    UserRow,
)
from tests.store.rows import (
    ALICE,
    BOB,
    ROOM,
    entry,
    event_id,
    key_package,
    room,
    to_device,
)


class AccountContract:
    """Replies, users, devices, messages to devices, server keys, media."""

    async def test_the_first_reply_for_a_key_stays(self, store: Store) -> None:
        await store.put_reply(Reply(scope="txn", key="1", value="$a"))
        await store.put_reply(Reply(scope="txn", key="1", value="$b"))
        await store.put_reply(Reply(scope="other", key="1", value="$c"))
        assert store.reply("txn", "1") == "$a"
        assert store.reply("other", "1") == "$c"
        assert store.reply("txn", "2") is None

    async def test_a_reply_is_forgotten_after_its_days_and_what_lasts_is_not(self, store: Store) -> None:
        day = 24 * 3_600_000
        assert await store.expire(1_000 * day) == 0
        await store.put_reply(Reply(scope="txn", key="1", value="$a"))
        await store.put_reply(Reply(scope="import", key="1", value="$b", lasting=True))
        await store.put_to_device([to_device(1)], Reply(scope="txn", key="3", value="{}"))
        assert await store.expire(1_001 * day) == 0
        reply = Reply(scope="txn", key="2", value="$c")
        await store.append(RoomAppend(room_id=ROOM, room=room(), entries=(entry(1),), replies=(reply,)))
        assert await store.expire((1_000 + REPLY_DAYS) * day + day - 1) == 0
        assert await store.expire((1_001 + REPLY_DAYS) * day) == 2
        assert [store.reply("txn", key) for key in "123"] == [None, "$c", None]
        assert await store.expire((1_002 + REPLY_DAYS) * day) == 1
        assert await store.expire(9_999 * day) == 0
        assert store.reply("import", "1") == "$b"
        await store.put_reply(Reply(scope="txn", key="1", value="$new"))
        assert store.reply("txn", "1") == "$new"

    async def test_the_latest_of_what_replaces_stands(self, store: Store) -> None:
        for value in ("$a", "$b"):
            await store.put_reply(Reply(scope="face", key="1", value=value, replacing=True))
        assert store.reply("face", "1") == "$b"
        await store.put_reply(Reply(scope="face", key="1", value="$c"))
        assert store.reply("face", "1") == "$b"

    async def test_many_replies_are_found_at_once(self, store: Store) -> None:
        append = RoomAppend(
            room_id=ROOM,
            room=room(),
            replies=tuple(Reply(scope="import", key=f"$k\n{n}'", value=str(n)) for n in range(250)),
        )
        await store.append(append)
        keys = [f"$k\n{n}'" for n in range(0, 500, 2)]
        assert store.replies("import", keys) == {f"$k\n{n}'": str(n) for n in range(0, 250, 2)}
        assert store.replies("import", []) == {}
        assert store.replies("else", keys) == {}

    async def test_a_user_is_created_once(self, store: Store) -> None:
        alice = UserRow(user_id=ALICE, password_hash="hash", created_ts=5)
        assert await store.put_user(alice)
        assert not await store.put_user(UserRow(user_id=ALICE, password_hash="other", created_ts=6))
        assert store.user(ALICE) == alice
        assert await store.put_user(UserRow(user_id=BOB, password_hash=None, created_ts=7))
        assert store.user(BOB) == UserRow(user_id=BOB, password_hash=None, created_ts=7)
        assert store.user("@nobody:a.example") is None

    async def test_devices_are_replaced_and_found_by_token(self, store: Store) -> None:
        phone = DeviceRow(user_id=BOB, device_id="PHONE", display_name="Phone", token_hash="aa")
        laptop = DeviceRow(user_id=BOB, device_id="LAPTOP", display_name=None, token_hash=None)
        await store.put_device(phone)
        await store.put_device(laptop)
        assert store.devices(BOB) == [laptop, phone]
        assert store.device_by_token("aa") == phone
        renewed = DeviceRow(user_id=BOB, device_id="PHONE", display_name="Mobile", token_hash="bb")
        await store.put_device(renewed)
        assert store.device_by_token("aa") is None
        assert store.device_by_token("bb") == renewed
        assert store.devices(ALICE) == []

    async def test_a_device_is_found_by_its_refresh_tokens_and_its_spent_token(self, store: Store) -> None:
        phone = DeviceRow(
            user_id=BOB,
            device_id="PHONE",
            display_name=None,
            token_hash="aa",
            expires_ts=7,
            refresh_hash="bb",
            spent_refresh_hash="cc",
            spent_token_hash="dd",
        )
        await store.put_device(phone)
        assert store.device_by_token("aa") == store.devices(BOB)[0] == phone
        assert [store.device_by_refresh(found) for found in ("bb", "cc", "aa")] == [phone, phone, None]
        assert [store.device_by_spent_token(found) for found in ("dd", "aa")] == [phone, None]
        await store.put_device(replace(phone, expires_ts=None, refresh_hash=None, spent_refresh_hash=None))
        assert store.device_by_refresh("bb") is store.device_by_refresh("cc") is None

    async def test_another_devices_token_is_refused(self, store: Store) -> None:
        phone = DeviceRow(user_id=BOB, device_id="PHONE", display_name=None, token_hash="aa")
        await store.put_device(phone)
        with pytest.raises(StoreError):
            await store.put_device(
                DeviceRow(user_id=ALICE, device_id="PHONE", display_name=None, token_hash="aa")
            )
        assert store.device_by_token("aa") == phone
        assert store.devices(ALICE) == []

    async def test_a_deleted_device_takes_its_packages_and_messages_along(self, store: Store) -> None:
        for device_id in ("PHONE", "LAPTOP"):
            await store.put_device(
                DeviceRow(user_id=BOB, device_id=device_id, display_name=None, token_hash=None)
            )
            await store.put_device_object(BOB, device_id, b"{}")
        await store.put_key_packages([key_package(1), key_package(2, device_id="LAPTOP")])
        await store.put_to_device([to_device(1), to_device(2, device_id="LAPTOP")])
        await store.delete_device(BOB, "PHONE")
        assert [device.device_id for device in store.devices(BOB)] == ["LAPTOP"]
        assert store.device_objects(BOB) == {"LAPTOP": b"{}"}
        assert store.key_package(key_package(1).reference) is None
        assert store.key_package(key_package(2).reference) is not None
        assert store.to_device(BOB, "PHONE", after=0, limit=10) == []
        assert len(store.to_device(BOB, "LAPTOP", after=0, limit=10)) == 1

    async def test_what_devices_say_of_themselves_is_replaced_and_forgotten(self, store: Store) -> None:
        await store.put_device_object(BOB, "PHONE", b'{"a":1}')
        await store.put_device_object(BOB, "PHONE", b'{"a":2}')
        await store.put_device_object(BOB, "LAPTOP", b"{}")
        await store.put_device_object(ALICE, "PHONE", b"{}")
        assert store.device_objects(BOB) == {"LAPTOP": b"{}", "PHONE": b'{"a":2}'}
        await store.delete_device_objects(BOB, ["PHONE", "GONE"])
        assert store.device_objects(BOB) == {"LAPTOP": b"{}"}
        assert store.device_objects(ALICE) == {"PHONE": b"{}"}

    async def test_messages_wait_in_order_until_deleted_and_positions_never_return(
        self, store: Store
    ) -> None:
        assert store.to_device_position() == 0
        await store.put_to_device([to_device(n) for n in range(3)])
        await store.put_to_device([to_device(9, device_id="LAPTOP")])
        waiting = store.to_device(BOB, "PHONE", after=0, limit=10)
        assert [row.content for row in waiting] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
        assert waiting[0] == ToDeviceRow(
            position=waiting[0].position,
            user_id=BOB,
            device_id="PHONE",
            type="m.room.encrypted",
            sender=ALICE,
            content=b'{"n":0}',
        )
        assert store.to_device_from(BOB, "PHONE", "a.example") == (3, 3 * len(b'{"n":0}'))
        for device_id, server in (
            ("PHONE", "b.example"),
            ("PHONE", "example"),
            ("PHONE", "A.example"),
            ("WATCH", "a.example"),
        ):
            assert store.to_device_from(BOB, device_id, server) == (0, 0)
        assert store.to_device_addresses("PHONE") == [BOB]
        assert store.to_device_addresses("WATCH") == []
        newest = store.to_device_position()
        assert newest == store.to_device(BOB, "LAPTOP", after=0, limit=1)[0].position > waiting[-1].position
        assert store.to_device(BOB, "PHONE", after=waiting[0].position, limit=1) == [waiting[1]]
        assert store.to_device(BOB, "PHONE", after=0, limit=0) == []
        await store.delete_to_device(BOB, "PHONE", waiting[1].position)
        assert store.to_device(BOB, "PHONE", after=0, limit=10) == [waiting[2]]
        await store.delete_to_device(BOB, "PHONE", newest)
        await store.delete_to_device(BOB, "LAPTOP", newest)
        assert store.to_device_position() == newest
        await store.put_to_device([to_device(4)])
        assert store.to_device_position() > newest

    async def test_what_is_for_many_devices_is_each_ones_own(self, store: Store) -> None:
        large = b'"' + b"w" * 10_000 + b'"'
        names = ["PHONE", "LAPTOP", "WATCH"]
        messages = [replace(to_device(1, device_id=name), content=large) for name in names]
        await store.put_to_device([*messages, to_device(2), replace(to_device(3), content=large + b" ")])

        def contents(device_id: str) -> list[bytes]:
            return [row.content for row in store.to_device(BOB, device_id, after=0, limit=10)]

        assert contents("PHONE") == [large, to_device(2).content, large + b" "]
        assert [contents(name) for name in names[1:]] == [[large]] * 2
        await store.delete_to_device(BOB, "PHONE", store.to_device_position())
        await store.delete_device(BOB, "LAPTOP")
        assert (contents("PHONE"), contents("LAPTOP"), contents("WATCH")) == ([], [], [large])

    async def test_a_repeated_request_stores_its_messages_once(self, store: Store) -> None:
        reply = Reply(scope="txn", key="1", value="{}")
        await store.put_to_device([to_device(1)], reply)
        await store.put_to_device([to_device(1)], reply)
        assert len(store.to_device(BOB, "PHONE", after=0, limit=10)) == 1
        assert store.reply("txn", "1") == "{}"

    async def test_an_append_brings_its_replies_and_messages(self, store: Store) -> None:
        await store.append(
            RoomAppend(
                room_id=ROOM,
                room=room(),
                entries=(entry(1),),
                replies=(Reply(scope="txn", key="1", value=event_id(ROOM, 1)),),
                to_device=(to_device(1), to_device(2)),
            )
        )
        assert store.reply("txn", "1") == event_id(ROOM, 1)
        assert len(store.to_device(BOB, "PHONE", after=0, limit=10)) == 2

    async def test_server_keys_are_replaced_by_what_was_seen_last(self, store: Store) -> None:
        def key(key_id: str, until: int, expired: int | None = None) -> ServerKeyRow:
            return ServerKeyRow(
                server_name="b.example",
                key_id=key_id,
                key=bytes(32),
                valid_until_ts=until,
                expired_ts=expired,
            )

        await store.put_server_keys([key("ed25519:1", 10), key("ed25519:2", 20)])
        await store.put_server_keys([key("ed25519:1", 10, expired=9)])
        assert store.server_keys("b.example") == [key("ed25519:1", 10, expired=9), key("ed25519:2", 20)]
        assert store.server_keys("c.example") == []

    async def test_media_is_recorded_once(self, store: Store) -> None:
        media = MediaRow(
            media_id="abc", uploader=ALICE, content_type="image/png", filename=None, size=9, created_ts=1
        )
        await store.put_media(media)
        assert store.media("abc") == media
        assert store.media("nope") is None
        with pytest.raises(StoreError):
            await store.put_media(media)

    @pytest.mark.parametrize("name", ["\ud800", "a\x00b", "'; DROP TABLE users; --"])
    async def test_names_that_no_peer_should_send_do_no_harm(self, store: Store, name: str) -> None:
        try:
            await store.put_user(UserRow(user_id=name, password_hash=None, created_ts=1))
        except StoreError:
            with pytest.raises(StoreError):
                store.user(name)
            with pytest.raises(StoreError):
                store.entry_by_id(name)
        else:
            assert store.user(name) == UserRow(user_id=name, password_hash=None, created_ts=1)
            assert store.entry_by_id(name) is None
        assert await store.put_user(UserRow(user_id=ALICE, password_hash=None, created_ts=1))

    async def test_a_number_no_log_reaches_is_an_error(self, store: Store) -> None:
        with pytest.raises(StoreError):
            store.changed_rooms(2**70)
