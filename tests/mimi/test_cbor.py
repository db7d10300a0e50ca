"""Deterministic CBOR, against RFC 8949's rules and cbor2."""

from __future__ import annotations

import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi import _cbor

DEPTH = 6

keys = st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=3) | st.binary(max_size=3)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([cbor2.undefined, cbor2.CBORSimpleValue(16), cbor2.CBORSimpleValue(255)])
)
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(cbor2.CBORTag, st.integers(32, 2**64 - 1), inner)
    ),
    max_leaves=6,
)


@given(values)
def test_any_value_round_trips(value: Any) -> None:
    data = _cbor.dumps(value)
    read = _cbor.loads(data, max_depth=64)
    assert read == value
    assert _cbor.dumps(read) == data


@given(st.binary(max_size=24))
def test_any_bytes_are_deterministic_cbor_or_refused(data: bytes) -> None:
    try:
        value = _cbor.loads(data, max_depth=DEPTH)
    except MimiDecodeError:
        return
    assert _cbor.dumps(value) == data
    cbor2.loads(data, allow_duplicate_keys=False, allow_indefinite=False, semantic_decoders=_AnyTag())


class _AnyTag(dict[int, Any]):
    """Keeps cbor2 from interpreting the tags it knows, which may hold what they should not."""

    def __init__(self) -> None:
        super().__init__({number: lambda value, _immutable: value for number in range(300)})


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (65536, "1a00010000"),
        (2**32, "1b0000000100000000"),
        (-1, "20"),
        (-(2**64), "3bffffffffffffffff"),
        (b"a" * 24, "5818" + "61" * 24),
        ("ü", "62c3bc"),
        ((1, (), {}), "83 01 80 a0"),
        (True, "f5"),
        (None, "f6"),
        (1.5, "f93e00"),
        (100000.0, "fa47c35000"),
        (1.1, "fb3ff199999999999a"),
        (-0.0, "f98000"),
        (math.inf, "f97c00"),
        # "sorting map keys according to the third bullet point": bytewise order of the encoded keys
        ({"a": 1, 256: 2, -1: 3, 10: 4, b"": 5}, "a5 0a04 19010002 2003 4005 616101"),
        (cbor2.CBORTag(1, 0), "c100"),
        (cbor2.CBORTag(2, b"\x01" + bytes(8)), "c249010000000000000000"),
    ],
)
def test_each_value_has_one_encoding(value: Any, data: str) -> None:
    assert _cbor.dumps(value) == bytes.fromhex(data)
    assert _cbor.loads(bytes.fromhex(data), max_depth=DEPTH) == value


def test_the_one_nan_is_the_short_quiet_one() -> None:
    assert _cbor.dumps(math.nan) == bytes.fromhex("f97e00")
    assert math.isnan(_cbor.loads(bytes.fromhex("f97e00"), max_depth=1))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "0000",  # bytes follow
        "1817",  # 23 in two octets
        "1900ff",  # 255 in three
        "1a0000ffff",
        "1b00000000ffffffff",
        "1c",  # reserved additional information
        "5f4161ff",  # indefinite byte string
        "9f00ff",  # indefinite array
        "bfff",
        "ff",
        "fc",
        "f818",  # simple value 24 is reserved
        "f814",  # false in two octets
        "fa3fc00000",  # 1.5 in five octets
        "fb3ff8000000000000",
        "f97e01",  # another NaN
        "fb7ff8000000000000",
        "4261",  # ends in the middle
        "8101 00",
        "82",
        "9b00000000ffffffff",
        "bbffffffffffffffff",
        "61ff",  # not UTF-8
        "a20100 0100",  # a key twice
        "a2 2000 0000",  # keys out of order
        "a1 f500",  # a key that is true
        "a1 8000",  # a key that is an array
        "a1 1b002000000000000000",  # an integer key of 2**53
        "a1 3b001fffffffffffff00",  # and of -(2**53)
        "c24101",  # a bignum that fits
        "c249000000000000000001",  # and one with a leading zero
        "c200",
        "81" * (DEPTH + 1) + "00",
        "c1" * (DEPTH + 1) + "00",
    ],
)
def test_what_is_not_deterministic_is_refused(data: str) -> None:
    with pytest.raises(MimiDecodeError):
        _cbor.loads(bytes.fromhex(data), max_depth=DEPTH)


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**64) - 1, object(), {1, 2}, "\ud800", {1.5: 0}, {True: 0}, {2**53: 0}, [bytearray(b"a")]],
)
def test_what_has_no_encoding_is_the_callers_mistake(value: object) -> None:
    with pytest.raises(ValueError, match=r"too large|no deterministic|not Unicode|map key"):
        _cbor.dumps(value)
