"""Binary HTTP: the examples of RFC 9292, both forms, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi.binary_http import (
    MAX_CONTROL_BYTES,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_INTERIM,
    BinaryRequest,
    BinaryResponse,
    read_varint,
    varint,
)
from linearized.mimi.tls import Reader

VECTORS: dict[str, str] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "http" / "binary-http.json").read_text(encoding="utf-8")
)
REQUEST = BinaryRequest(
    method="GET",
    scheme="https",
    authority="",
    path="/hello.txt",
    headers=(
        (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
        (b"host", b"www.example.com"),
        (b"accept-language", b"en, mi"),
    ),
)
SMALL = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
"""GET https://example.com/, and nothing after the control data."""


def test_the_known_length_request_of_the_rfc_is_read_and_written() -> None:
    data = bytes.fromhex(VECTORS["known_length_request"])
    assert BinaryRequest.decode(data) == REQUEST
    # We write the empty trailer section, which the example's two last bytes also do.
    assert REQUEST.encode() == data


def test_the_indeterminate_length_request_of_the_rfc_is_read_with_all_or_none_of_its_padding() -> None:
    data = bytes.fromhex(VECTORS["indeterminate_length_request"])
    assert BinaryRequest.decode(data) == REQUEST
    for cut in range(1, 13):  # "anything up to 12 bytes can be removed … without affecting its meaning"
        assert BinaryRequest.decode(data[:-cut]) == REQUEST
    with pytest.raises(MimiDecodeError):
        BinaryRequest.decode(data[:-13])


def test_the_response_of_the_rfc_has_its_informational_responses() -> None:
    response = BinaryResponse.decode(bytes.fromhex(VECTORS["indeterminate_length_response"]))
    assert [status for status, _ in response.interim] == [102, 103]
    assert response.interim[0][1] == ((b"running", b'"sleep 15"'),)
    assert (response.status, dict(response.headers)[b"content-length"]) == (200, b"51")
    assert response.content == b"Hello World! My content includes a trailing CRLF.\r\n"
    assert BinaryResponse.decode(response.encode()) == response


def test_the_known_length_response_of_the_rfc_has_its_trailer() -> None:
    data = bytes.fromhex(VECTORS["known_length_response"])
    response = BinaryResponse.decode(data)
    assert response.content == b"This content contains CRLF.\r\n"
    assert response.trailers == ((b"trailer", b"text"),)
    assert response.encode() == data


def test_a_truncated_message_has_no_fields_and_no_content() -> None:
    assert BinaryRequest.decode(SMALL) == BinaryRequest(
        method="GET", scheme="https", authority="example.com", path="/"
    )
    assert BinaryResponse.decode(b"\x01\x40\xc8") == BinaryResponse(status=200)
    assert BinaryResponse.decode(b"\x03\x40\xc8").content == b""


def test_chunks_of_an_indeterminate_length_message_are_put_together() -> None:
    assert BinaryResponse.decode(b"\x03\x40\xc8\x00\x02ab\x01c\x00\x00").content == b"abc"


def field(name: bytes, value: bytes = b"") -> bytes:
    return varint(len(name)) + name + varint(len(value)) + value


def section(*fields: bytes) -> bytes:
    return varint(sum(map(len, fields))) + b"".join(fields)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01\x40\xc8", id="a response where a request is expected"),
        pytest.param(b"\x04", id="an unknown framing indicator"),
        pytest.param(SMALL[:-1], id="a path that ends early"),
        pytest.param(b"\x00\x00\x05https\x01a\x01/", id="no method"),
        pytest.param(b"\x00\x03G T\x05https\x01a\x01/", id="a method with a space"),
        pytest.param(b"\x00\x03GET\x05https\x01a\x02/\n", id="a line end in the path"),
        pytest.param(b"\x00\x03GET\x05https\x02a\xe9\x01/", id="an authority that is not ASCII"),
        pytest.param(
            b"\x00\x03GET\x05https\x01a" + varint(MAX_CONTROL_BYTES + 1) + b"/" * (MAX_CONTROL_BYTES + 1),
            id="a path that is too long",
        ),
        pytest.param(SMALL + b"\x05", id="a section that ends early"),
        pytest.param(SMALL + b"\x00\x05a", id="content that ends early"),
        pytest.param(SMALL + b"\x00\x00\x00\x00\x01", id="padding that is not zero"),
        pytest.param(SMALL + section(field(b"Host", b"a")), id="a name with upper case"),
        pytest.param(SMALL + section(b"\x00\x00"), id="a name without a letter"),
        pytest.param(SMALL + section(field(b"a b")), id="a name with a space"),
        pytest.param(SMALL + section(field(b":path", b"/x")), id="control data among the fields"),
        pytest.param(SMALL + section(field(b"a"), field(b":b")), id="a pseudo-field after a field"),
        pytest.param(SMALL + section(field(b"connection", b"close")), id="a field about the connection"),
        pytest.param(SMALL + section(field(b"te", b"gzip")), id="transfer codings"),
        pytest.param(SMALL + section(field(b"a", b"b\r\nc: d")), id="a value with a line end"),
        pytest.param(SMALL + section(field(b"a", b" b")), id="a value with a space before it"),
        pytest.param(SMALL + section(*[field(b"a")] * (MAX_FIELDS + 1)), id="too many fields"),
        pytest.param(SMALL + section(field(b"a", b"b" * MAX_FIELD_BYTES)), id="fields that are too long"),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        BinaryRequest.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(SMALL, id="a request where a response is expected"),
        pytest.param(b"\x01\x40\x63", id="a status code below 100"),
        pytest.param(b"\x01\x42\x58", id="a status code of 600"),
        pytest.param(b"\x01\x40\x66\x00", id="only an informational response"),
        pytest.param(
            b"\x01" + b"\x40\x66\x00" * (MAX_INTERIM + 1) + b"\x40\xc8", id="too many informational responses"
        ),
        pytest.param(b"\x03\x40\xc8" + field(b"a", b"b"), id="fields without an end"),
        pytest.param(b"\x03\x40\xc8\x00\x02ab", id="content without an end"),
        pytest.param(
            b"\x03\x40\xc8" + field(b"a", b"b" * MAX_FIELD_BYTES) + b"\x00", id="fields that are too long"
        ),
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        BinaryResponse.decode(data)


def test_trailers_are_announced_and_pseudo_fields_of_extensions_come_first() -> None:
    request = BinaryRequest.decode(SMALL + section(field(b":protocol", b"x"), field(b"te", b"trailers")))
    assert request.headers == ((b":protocol", b"x"), (b"te", b"trailers"))


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (37, "25"),
        (15293, "7bbd"),
        (494878333, "9d7f3e7d"),
        (151288809941952652, "c2197c5eff14e88c"),
    ],
)
def test_the_integers_of_rfc_9000_are_read_and_written(value: int, data: str) -> None:
    assert varint(value).hex() == data
    assert read_varint(Reader(bytes.fromhex(data))) == value


def test_an_integer_need_not_be_short_and_cannot_have_more_than_62_bits() -> None:
    assert read_varint(Reader(b"\x40\x25")) == 37
    for value in (-1, 1 << 62):
        with pytest.raises(ValueError, match="62 bits"):
            varint(value)


names = st.text("abc-_.0123456789", min_size=1, max_size=8).map(str.encode)
values = st.text("abc:/, =;", max_size=12).map(lambda text: text.strip().encode())
fields = st.lists(st.tuples(names, values), max_size=4).map(tuple)
printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)
requests = st.builds(
    BinaryRequest,
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    scheme=st.just("https"),
    authority=printable,
    path=printable,
    headers=fields,
    content=st.binary(max_size=80),
    trailers=fields,
)
responses = st.builds(
    BinaryResponse,
    status=st.integers(200, 599),
    headers=fields,
    content=st.binary(max_size=80),
    trailers=fields,
    interim=st.lists(st.tuples(st.integers(100, 199), fields), max_size=2).map(tuple),
)


@settings(deadline=None)
@given(requests, st.integers(0, 20))
def test_any_request_round_trips_whatever_its_padding(request: BinaryRequest, padding: int) -> None:
    assert BinaryRequest.decode(request.encode() + bytes(padding)) == request


@settings(deadline=None)
@given(responses)
def test_any_response_round_trips(response: BinaryResponse) -> None:
    assert BinaryResponse.decode(response.encode()) == response


@settings(deadline=None)
@given(
    st.sampled_from([BinaryRequest.decode, BinaryResponse.decode]),
    st.binary(max_size=80)
    | st.binary(max_size=40).map(lambda tail: SMALL + tail)
    | st.binary(max_size=40).map(lambda tail: b"\x03\x40\xc8" + tail),
)
def test_any_bytes_are_a_message_or_refused(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        message = decode(data)
    except MimiDecodeError:
        return
    assert decode(message.encode()) == message


@pytest.mark.parametrize(
    ("authority", "hosts", "url"),
    [
        ("a.example", (), "https://a.example/x?y"),
        ("a.example", (b"b.example",), "https://a.example/x?y"),
        ("", (b"b.example",), "https://b.example/x?y"),
        ("", (b"b.example", b"c.example"), "https:///x?y"),
        ("", (), "https:///x?y"),
    ],
)
def test_the_authority_is_that_of_the_control_data_or_the_one_host_field(
    authority: str, hosts: tuple[bytes, ...], url: str
) -> None:
    headers = ((b"accept", b"*/*"), *((b"host", host) for host in hosts))
    request = BinaryRequest(method="GET", scheme="https", authority=authority, path="/x?y", headers=headers)
    assert BinaryRequest.decode(request.encode()).url == url
