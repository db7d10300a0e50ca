"""Vectors, codecs and structures of the TLS presentation language."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi.tls import (
    MAX_VECTOR_BYTES,
    Bytes,
    Enumeration,
    Fixed,
    Maybe,
    Raw,
    Reader,
    String,
    Struct,
    Text,
    Uint,
    Uint8,
    Uint16,
    UnknownValue,
    Vector,
    When,
    encode_vector,
    length_width,
)


class Colour(IntEnum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner(Struct):
    number: Uint16

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("thirteen is not a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything(Struct):
    colour: Annotated[Colour, Enumeration(Colour)] = Colour.RED
    shade: Annotated[Colour | UnknownValue, Enumeration(Colour, extensible=True, reserved=(0,))] = Colour.BLUE
    size: Annotated[bytes, Fixed(2)] = b"ab"
    blob: Bytes = b""
    name: String = ""
    short: Annotated[str, Text("ascii", 3)] = ""
    inner: Inner = Inner(number=1)
    items: Annotated[tuple[Inner, ...], Vector(Inner, min_items=1)] = (Inner(number=2),)
    maybe: Annotated[int | None, Maybe(Uint(1))] = None
    only_red: Annotated[int | None, When("colour", (Colour.RED,), Uint(1))] = 5
    raw: Annotated[bytes, Raw(lambda reader: reader.skip(1))] = b"x"
    last: Uint8 = 0


@pytest.mark.parametrize(
    ("length", "prefix"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "4040"),
        (16383, "7fff"),
        (16384, "80004000"),
    ],
)
def test_a_length_is_encoded_as_rfc_9420_says(length: int, prefix: str) -> None:
    data = encode_vector(bytes(length))
    assert data == bytes.fromhex(prefix) + bytes(length)
    assert Reader(data).vector() == bytes(length)


def test_a_length_beyond_thirty_bits_has_no_encoding() -> None:
    assert length_width(MAX_VECTOR_BYTES) == 4
    with pytest.raises(ValueError, match="no encoding"):
        length_width(MAX_VECTOR_BYTES + 1)


@pytest.mark.parametrize("data", ["4001", "403f", "80000001", "80003fff", "c000", "ff", "", "40", "02ff"])
def test_a_length_that_is_not_minimal_or_passes_the_end_is_refused(data: str) -> None:
    with pytest.raises(MimiDecodeError):
        Reader(bytes.fromhex(data)).vector()


def test_a_nested_vector_cannot_reach_beyond_its_container() -> None:
    inner = Reader(bytes.fromhex("0202ffff")).sub()
    with pytest.raises(MimiDecodeError, match="2 bytes expected, 1 left"):
        inner.vector()


def walk_elements(data: bytes, vectors: int) -> int:
    """Where a walk over one element after the other ends."""
    reader = Reader(data)
    while reader.remaining:
        reader.skip_vectors(vectors)
    return reader.position


SHAPES = st.lists(
    st.sampled_from([b"", b"a", b"\x01", b"\x01\x01", bytes(63), bytes(64), b"\x40" * 64]), max_size=9
)


@given(
    st.one_of(
        st.binary(max_size=40),
        # Many alike, and perhaps one that is not; perhaps cut short.
        st.builds(
            lambda shape, count, other, cut: (
                b"".join(map(encode_vector, shape)) * count + b"".join(map(encode_vector, other))
            )[: cut or None],
            SHAPES,
            st.integers(1, 9),
            SHAPES,
            st.integers(-3, 0),
        ),
    ),
    st.integers(1, 3),
)
def test_elements_that_are_alike_are_passed_as_one_after_the_other_would_be(
    data: bytes, vectors: int
) -> None:
    reader = Reader(data)
    try:
        expected = walk_elements(data, vectors)
    except MimiDecodeError:
        with pytest.raises(MimiDecodeError):
            reader.skip_elements(vectors)
    else:
        reader.skip_elements(vectors)
        assert reader.position == expected


def test_elements_are_passed_to_the_end_of_their_own_vector() -> None:
    outer = Reader(encode_vector(encode_vector(b"ab") * 5) + b"\x02abc")
    inner = outer.sub()
    inner.skip_elements(1)
    assert inner.remaining == 0
    assert outer.vector() == b"ab"


def test_every_codec_round_trips() -> None:
    value = Everything(
        shade=UnknownValue(9),
        blob=b"blob",
        name="naïve",
        short="abc",
        items=(Inner(number=3), Inner(number=4)),
        maybe=7,
        last=255,
    )
    data = value.encode()
    assert data.hex() == "01096162" + "04626c6f62" + "066e61c3af7665" + "03616263" + "0001" + "0400030004" + (
        "0107" + "05" + "78" + "ff"
    )
    assert Everything.decode(data) == value
    assert repr(Everything.decode(data).shade) == "UnknownValue(9)"


def test_a_field_that_is_not_selected_is_not_on_the_wire() -> None:
    value = Everything(colour=Colour.BLUE, only_red=None)
    assert len(value.encode()) == len(Everything().encode()) - 1
    assert Everything.decode(value.encode()) == value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": 9}, "not a Colour"),
        ({"shade": 0}, "not a Colour"),
        ({"size": b"abc"}, "2 bytes expected"),
        ({"short": "abcd"}, "over the limit"),
        ({"short": "ü"}, "ascii"),
        ({"inner": "three"}, "Inner expected, str given"),
        ({"items": ()}, "at least 1"),
        ({"last": 256}, "does not fit"),
        ({"last": -1}, "does not fit"),
        ({"raw": b""}, "not the bytes of one structure"),
        ({"raw": b"xy"}, "not the bytes of one structure"),
        ({"only_red": None}, "a value is needed"),
        ({"colour": Colour.BLUE}, "has no place"),
    ],
)
def test_a_value_without_an_encoding_is_the_callers_mistake(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Everything(**change).encode()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"\x01\x02ab", b"\x03\x02ab"),  # an enumeration that is not extensible
        (b"\x01\x02ab", b"\x01\x00ab"),  # a reserved value
        (b"ab\x00\x00\x00", b"ab\x00\x01\xff\x00"),  # not UTF-8
        (b"ab\x00\x00\x00", b"ab\x00\x00\x04abcd"),  # a text over its limit
        (b"\x00\x01\x02\x00\x02", b"\x00\x01\x00"),  # too few items
        (b"\x02\x00\x02\x00", b"\x02\x00\x02\x02"),  # a presence octet of 2
        (b"\x00\x01\x02\x00\x02", b"\x00\x0d\x02\x00\x02"),  # a rule beyond the layout
    ],
)
def test_bytes_that_are_nothing_are_refused(good: bytes, bad: bytes) -> None:
    data = Everything().encode()
    assert data.count(good) == 1
    with pytest.raises(MimiDecodeError):
        Everything.decode(data.replace(good, bad))


def test_a_truncated_or_longer_structure_is_refused() -> None:
    data = Everything().encode()
    for end in range(len(data)):
        with pytest.raises(MimiDecodeError):
            Everything.decode(data[:end])
    with pytest.raises(MimiDecodeError, match="1 bytes follow"):
        Everything.decode(data + b"\x00")


@given(st.binary(max_size=70000))
def test_any_vector_round_trips(content: bytes) -> None:
    reader = Reader(encode_vector(content))
    assert reader.vector() == content
    reader.finish()
