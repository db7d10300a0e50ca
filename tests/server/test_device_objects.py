"""What a device says of itself is believed if that very device signed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.credentials import ClientIdentity
from linearized.room.devices import CREDENTIAL_KEY as CREDENTIAL
from linearized.server.device_objects import MAX_OBJECT_BYTES, checked, published
from linearized.store.sqlite import SqliteStore
from tests.server.device_support import credential, device_object, signer, vector

BOB = "@bob:b.example"
KEY_ID = f"{CREDENTIAL}:PHONE"


def test_a_signed_object_is_given_back_without_what_is_not_signed() -> None:
    said = device_object(BOB)
    assert checked({**said, "unsigned": {"name": "x"}}, user_id=BOB) == said
    assert checked(said, user_id=BOB, device_id="PHONE") == said


def keys(value: Any) -> JsonObject:
    return {"keys": {KEY_ID: value}}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        *({k: v for k, v in device_object(BOB).items() if k != name} for name in device_object(BOB)),
        device_object("@eve:b.example"),
        device_object(BOB, "LAPTOP"),
        device_object(BOB, device_id="not-one"),
        device_object(BOB, algorithms="all"),
        device_object(BOB, algorithms=[1]),
        device_object(BOB, keys=[]),
        device_object(BOB, keys={}),
        device_object(BOB, **keys(5)),
        device_object(BOB, **keys("!!!")),
        device_object(BOB, **keys("AAAA")),
        device_object(BOB, **keys(credential("@eve:b.example", "PHONE", signer().verify_key))),
        device_object(BOB, **keys(credential(BOB, "LAPTOP", signer().verify_key))),
        device_object(BOB, **keys(credential(BOB, "PHONE", signer("another").verify_key))),
        device_object(BOB, **keys(credential(BOB, "PHONE", b"short"))),
        device_object(BOB, **keys(encode_base64(vector(BOB.encode()) * 4))),
        device_object(BOB, algorithms=["x" * MAX_OBJECT_BYTES]),
        device_object(BOB, algorithms=["a"]) | {"algorithms": ["b"]},
        device_object(BOB) | {"signatures": {}},
        device_object(BOB) | {"signatures": {BOB: {}}},
        device_object(BOB) | {"signatures": {"@eve:b.example": {KEY_ID: "A" * 86}}},
        device_object(BOB) | {"signatures": {BOB: {KEY_ID: "A" * 86}}},
        device_object(
            BOB, keys={KEY_ID: credential(BOB, "PHONE", signer().verify_key), "org.example.key:PHONE": "x"}
        ),
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        checked(value, user_id=BOB, device_id="PHONE")


async def test_the_key_that_a_device_published_is_found_again(tmp_path: Path, nursery: trio.Nursery) -> None:
    store = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF")
    await nursery.start(store.run)
    await store.put_device_object(BOB, "PHONE", orjson.dumps(device_object(BOB)))
    assert published(store, ClientIdentity(BOB, "PHONE")) == signer().verify_key
    assert published(store, ClientIdentity(BOB, "LAPTOP")) is None
    await store.aclose()
