from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from bridges.matrix.homeserver import GHOST_DEVICE
from bridges.matrix.megolm import devices, publishing
from bridges.matrix.megolm.accounts import BOT_ONE_TIME_KEYS, SIGNED_KEY
from bridges.matrix.megolm.errors import BadSignature
from bridges.matrix.megolm.signing import check_signed, signed
from tests.bridges.encrypting_client import JsonObject
from tests.bridges.megolm.rig import Rig, devices_in
from tests.bridges.megolm.support import client_of
from tests.bridges.support import ALICE, BOB, BOT, GHOST_BOB, open_world


async def answer(rig: Rig) -> JsonObject:
    return rig.homeserver.keys.answer(ALICE, "", "POST", ["keys", "query"], {"device_keys": {ALICE: []}})


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": BOB},
        {"device_id": "OTHER"},
        {"keys": {}},
        {"keys": {"curve25519:PHONE": 5, "ed25519:PHONE": "x"}},
        {"keys": {"curve25519:PHONE": "x" * 256, "ed25519:PHONE": "x"}},
        {"algorithms": ["m.megolm.v9"]},
        {"signatures": {}},
        {"signatures": {ALICE: {"ed25519:PHONE": "A" * 86}}},
        {"signatures": {ALICE: {"ed25519:PHONE": "?"}}},
        {"signatures": {ALICE: []}},
    ],
)
async def test_a_device_whose_keys_do_not_hold_does_not_exist(change: dict[str, Any]) -> None:
    rig = Rig()
    await rig.client()
    assert devices_in(await answer(rig)) == ["PHONE"]
    rig.homeserver.keys.devices[ALICE, "PHONE"].update(change)
    assert devices_in(await answer(rig)) == []


async def test_a_device_keeps_the_keys_it_was_first_seen_with() -> None:
    rig = Rig()
    own = await rig.bot()
    await rig.client()
    await rig.publishing.refresh([ALICE], own)
    (first,) = rig.lists.of(ALICE)
    await rig.client()  # the same user and device ID, with other keys
    rig.lists.changed([ALICE])
    await rig.publishing.refresh([ALICE], own)
    assert rig.lists.of(ALICE) == []
    rig.homeserver.keys.devices.clear()
    rig.lists.changed([ALICE])
    await rig.publishing.refresh([ALICE], own)
    assert rig.lists.of(ALICE) == []
    assert rig.lists.owner_of_key(first.curve25519) == first


async def test_a_device_is_verified_by_an_identity_that_holds() -> None:
    rig = Rig()
    own = await rig.bot()
    alice = await rig.client()

    async def verified() -> bool:
        rig.lists.changed([ALICE])
        await rig.publishing.refresh([ALICE], own)
        return rig.lists.of(ALICE)[0].cross_signed

    assert await verified()
    identity = rig.homeserver.keys.identities[ALICE]
    # A self-signing key that the master key has not signed, one of another usage, another user's, no key.
    unsigned = {**identity["self_signing_key"], "signatures": {}}
    for key in (
        unsigned,
        identity["user_signing_key"],
        {**unsigned, "user_id": BOB},
        {**unsigned, "keys": {}},
    ):
        rig.homeserver.keys.identities[ALICE] = {**identity, "self_signing_key": key}
        assert not await verified()
    rig.homeserver.keys.identities[ALICE] = identity
    rig.homeserver.keys.devices[ALICE, "PHONE"] = alice.device_keys()
    assert not await verified()


async def test_only_so_many_devices_of_a_user_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MAX_DEVICES", 2)
    rig = Rig()
    for name in ("A", "B", "C"):
        await client_of(rig.homeserver, ALICE, name).publish(verified=False)
    assert devices_in(await answer(rig)) == ["A", "B"]


async def test_what_changes_while_devices_are_asked_for_is_asked_for_again() -> None:
    rig = Rig()
    own = await rig.bot()
    await rig.client()
    rig.lists.asking([ALICE])
    rig.lists.changed([ALICE])
    rig.lists.update(ALICE, [])
    assert rig.lists.outdated([ALICE]) == [ALICE]
    await rig.publishing.refresh([ALICE], own)
    assert rig.lists.outdated([ALICE]) == []
    rig.lists.all_outdated()
    assert rig.lists.outdated([ALICE]) == [ALICE]


async def test_of_users_whose_server_is_away_the_known_devices_stay(autojump_clock: Any) -> None:
    rig = Rig()
    own = await rig.bot()
    await rig.client()
    await rig.publishing.refresh([ALICE], own)
    rig.homeserver.keys.failures = {"matrix.example": {}}
    rig.lists.changed([ALICE])
    rig.homeserver.keys.devices.pop((ALICE, "PHONE"))
    await rig.publishing.refresh([ALICE], own)
    assert len(rig.lists.of(ALICE)) == 1
    rig.homeserver.keys.failures = {}
    await rig.publishing.refresh([ALICE], own)  # too soon
    assert len(rig.lists.of(ALICE)) == 1
    await trio.sleep(publishing.FAILURE_PAUSE)
    await rig.publishing.refresh([ALICE], own)
    assert rig.lists.of(ALICE) == []


# --- our own ---


async def test_our_devices_are_signed_by_themselves_and_by_an_identity() -> None:
    rig = Rig()
    own = await rig.bot()
    keys, identity = rig.bot_keys, rig.homeserver.keys.identities[BOT]
    check_signed(keys, user_id=BOT, key_id=own.device_id, key=own.ed25519)
    (master,) = identity["master_key"]["keys"].values()
    (self_signing,) = identity["self_signing_key"]["keys"].values()
    check_signed(keys, user_id=BOT, key_id=self_signing, key=self_signing)
    for usage in ("self_signing", "user_signing"):
        check_signed(identity[f"{usage}_key"], user_id=BOT, key_id=master, key=master)
    check_signed(identity["master_key"], user_id=BOT, key_id=own.device_id, key=own.ed25519)
    for key in rig.homeserver.keys.one_time[BOT, own.device_id].values():
        check_signed(key, user_id=BOT, key_id=own.device_id, key=own.ed25519)
    with pytest.raises(BadSignature):
        check_signed({**keys, "device_id": "OTHER"}, user_id=BOT, key_id=own.device_id, key=own.ed25519)
    with pytest.raises(BadSignature):
        check_signed(keys, user_id=BOT, key_id=own.device_id, key=master)
    assert signed(keys, account=own.account, user_id=BOT, key_id=own.device_id) == keys


async def test_keys_that_were_used_up_are_made_anew() -> None:
    rig = Rig()
    own = await rig.bot()
    place = (BOT, own.device_id)
    server = rig.homeserver.keys
    assert len(server.one_time[place]) == BOT_ONE_TIME_KEYS
    used = dict(server.one_time.pop(place))
    (fallback,) = server.fallback[place]
    counts: JsonObject = {BOT: {own.device_id: {SIGNED_KEY: 0}}, ALICE: {}, f"{BOT}x": {}}
    await rig.publishing.top_up(counts, {BOT: {own.device_id: [SIGNED_KEY]}})
    assert len(server.one_time[place]) == BOT_ONE_TIME_KEYS
    assert not set(server.one_time[place]) & set(used)
    assert list(server.fallback[place]) == [fallback]
    full: JsonObject = {BOT: {own.device_id: {SIGNED_KEY: BOT_ONE_TIME_KEYS}}}
    rig.homeserver.requests.clear()
    await rig.publishing.top_up(full, {BOT: {own.device_id: [SIGNED_KEY]}})
    assert rig.homeserver.requests == []
    await rig.publishing.top_up(full, {BOT: {own.device_id: []}})
    assert list(server.fallback[place]) != [fallback]
    for nonsense in ({BOT: 5}, {BOT: {own.device_id: 5}}, {BOT: {own.device_id: {SIGNED_KEY: "x"}}}):
        rig.homeserver.requests.clear()
        await rig.publishing.top_up(nonsense, {})
        assert rig.homeserver.requests == []


async def test_a_device_that_exists_is_not_made_again() -> None:
    rig = Rig()
    first = await rig.bot()
    rig.homeserver.requests.clear()
    assert (await rig.bot()).device_id == first.device_id
    assert rig.homeserver.requests == []


async def test_where_application_services_may_not_log_in_devices_are_made_by_put(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.homeserver.devices_by_put = True
        assert await world.bridge.ghosts.answer_query(GHOST_BOB)
        assert (GHOST_BOB, GHOST_DEVICE) in world.homeserver.devices
        assert GHOST_BOB in world.homeserver.users
        rig = Rig(homeserver=world.homeserver)
        own = await rig.publishing.device(GHOST_BOB)
        assert (GHOST_BOB, own.device_id) in world.homeserver.devices
