from __future__ import annotations

import secrets

import pytest

from linearized.client import MemoryStorage, MlsDevice, SealedStorage, StateFileError
from linearized.client.sealed_storage import KEY_BYTES, SEALED

KEY, OTHER = bytes(32), b"k" * 32


def sealed(inner: MemoryStorage, *, key: bytes = KEY, owner: str = "alice") -> SealedStorage:
    return SealedStorage(inner, key=key, owner=owner, random=secrets.token_bytes)


def test_a_device_goes_on_from_its_sealed_state_and_nothing_of_it_is_in_the_clear() -> None:
    inner = MemoryStorage()
    assert sealed(inner).load() is None
    MlsDevice.open(sealed(inner), user_id="@alice:a.example", device_id="PHONE")
    assert inner.data is not None
    assert inner.data.startswith(SEALED)
    assert b"alice" not in inner.data
    plain = sealed(inner).load()
    assert plain is not None
    assert b"alice" in plain
    MlsDevice.open(sealed(inner), user_id="@alice:a.example", device_id="PHONE")
    assert sealed(inner).load() == plain, "the same device again, not a new one"


def test_the_same_state_is_never_sealed_alike() -> None:
    inner = MemoryStorage()
    seen = set()
    for _ in range(3):
        sealed(inner).save(b"state")
        seen.add(inner.data)
    assert len(seen) == 3


@pytest.mark.parametrize(("key", "owner"), [(OTHER, "alice"), (KEY, "bob")])
def test_it_opens_with_its_own_key_and_for_its_owner_only(key: bytes, owner: str) -> None:
    inner = MemoryStorage()
    sealed(inner).save(b"state")
    with pytest.raises(StateFileError, match="does not open"):
        sealed(inner, key=key, owner=owner).load()


def test_a_state_that_was_changed_or_cut_does_not_open() -> None:
    inner = MemoryStorage()
    sealed(inner).save(b"state")
    whole = inner.data
    assert whole is not None
    start = len(whole) - len(b"state") - 16 - 12
    for at in range(start, len(whole)):
        inner.data = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(StateFileError):
            sealed(inner).load()
        inner.data = whole[:at]
        with pytest.raises(StateFileError):
            sealed(inner).load()


def test_a_state_from_before_is_read_and_sealed_when_it_is_saved() -> None:
    inner = MemoryStorage(b"state")
    assert sealed(inner).load() == b"state"
    sealed(inner).save(b"next")
    assert inner.data is not None
    assert inner.data.startswith(SEALED)
    assert sealed(inner).load() == b"next"


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=str(KEY_BYTES)):
        sealed(MemoryStorage(), key=b"short")
