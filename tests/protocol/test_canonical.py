from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import canonicaljson
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    canonical_json,
    check_decoded,
    check_json,
    parse_json_object,
)
from tests.protocol.support import any_json, json_objects, json_values, quick


class Colour(StrEnum):
    RED = "red"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_keys_are_sorted_by_utf16_code_units_as_rfc_8785_shows() -> None:
    # RFC 8785, section 3.2.3, its own example.
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(orjson.loads(canonical_json(value)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


def test_keys_are_sorted_at_every_level_on_the_exact_path_too() -> None:
    assert canonical_json({"\U0001f600": [{"b": 1, "a": [2]}], "\ue000": {"d": 1, "c": 2}}) == (
        '{"\U0001f600":[{"a":[2],"b":1}],"\ue000":{"c":2,"d":1}}'.encode()
    )


def test_strings_are_escaped_as_rfc_8785_says() -> None:
    assert canonical_json('\x00\x08\t\n\x0b\x0c\r\x1f"\\/\x7f\u2028é😀') == (
        '"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\"\\\\/\x7f\u2028é😀"'.encode()
    )


def test_scalars_and_empty_containers_are_written_without_white_space() -> None:
    assert canonical_json({"a": [None, True, False, -0, MAX_INTEGER, -MAX_INTEGER, {}, []], "": ""}) == (
        b'{"":"","a":[null,true,false,0,9007199254740991,-9007199254740991,{},[]]}'
    )


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        {1: "a"},
        {Colour.RED: 1},
        Colour.RED,
        (1,),
        {1, 2},
        b"a",
        "\ud800",
        {"\udc00": 1},
        {"a": ["\ud800"]},
        {"\ud800\ue000": 1},
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json([value])


def test_the_deepest_nesting_is_accepted_and_one_more_is_refused() -> None:
    assert canonical_json(nested(MAX_DEPTH)) == b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    with pytest.raises(CanonicalJsonError, match="nested deeper than 200"):
        canonical_json(nested(MAX_DEPTH + 1))


def test_the_deepest_nesting_is_accepted_on_the_exact_path() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = {"\ue000": value}
    assert parse_json_object(canonical_json(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b"{",
        b'{"a":1.5}',
        b'{"a":1e2}',
        b'{"a":1.0}',
        b'{"a":9007199254740992}',
        b'{"a":18446744073709551616}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":1}x',
        b"[" * 100_000,
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    ],
)
def test_text_that_is_no_strict_object_is_refused(data: bytes) -> None:
    with pytest.raises(CanonicalJsonError):
        parse_json_object(data)


def test_the_last_of_duplicate_keys_counts() -> None:
    assert parse_json_object(b'{"a":1,"a":2}') == {"a": 2}


def test_minus_zero_is_zero() -> None:
    assert canonical_json(parse_json_object(b'{"a":-0}')) == b'{"a":0}'


@quick
@given(json_objects)
def test_parsing_undoes_encoding(value: dict[str, Any]) -> None:
    data = canonical_json(value)
    assert parse_json_object(data) == value
    assert canonical_json(parse_json_object(data)) == data


@quick
@given(json_values)
def test_bytes_equal_those_of_canonicaljson_where_key_orders_agree(value: object) -> None:
    """They differ only when keys at U+E000 to U+FFFF meet keys above: Matrix sorts by code point."""
    text = orjson.dumps(value).decode()
    if max(text) < "\ue000":
        assert canonical_json(value) == canonicaljson.encode_canonical_json(value)


def test_canonicaljson_orders_astral_keys_differently() -> None:
    value = {"\U0001f600": 1, "\ue000": 2}
    assert canonicaljson.encode_canonical_json(value) != canonical_json(value)


@quick
@given(json_values)
@example({"\U0001f600": {"\U0001f600": 1, "\ue000": 2}, "\ue000": 2})
def test_with_code_point_order_bytes_are_those_of_canonicaljson(value: object) -> None:
    assert canonical_json(value, code_point_order=True) == canonicaljson.encode_canonical_json(value)


def test_the_sample_of_rfc_8785_is_encoded_as_it_says() -> None:
    # RFC 8785, section 3.2.2 and 3.2.3, without its numbers.
    sample = (
        rb'{"string": "\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )
    expected = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical_json(parse_json_object(sample)) == expected.encode()


@pytest.mark.parametrize(
    "number", [b"333333333.33333329", b"1E30", b"4.50", b"2e-3", b"0.000000000000000000000000001"]
)
def test_the_numbers_of_that_sample_have_no_place_here(number: bytes) -> None:
    with pytest.raises(CanonicalJsonError):
        parse_json_object(b'{"numbers":[' + number + b"]}")


# RFC 8785, appendix B: what its doubles are written as, those of them that are integers we take.
@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"0", b"0"),
        (b"-0", b"0"),
        (b"9007199254740991", b"9007199254740991"),
        (b"-9007199254740991", b"-9007199254740991"),
    ],
)
def test_integers_are_written_as_ecmascript_writes_them(text: bytes, written: bytes) -> None:
    assert canonical_json(parse_json_object(b'{"n":' + text + b"}")) == b'{"n":' + written + b"}"


@pytest.mark.parametrize(
    "text",
    [
        b"9007199254740992",
        b"-9007199254740992",
        b"9007199254740994",
        b"295147905179352830000",
        b"5e-324",
        b"1.7976931348623157e+308",
    ],
)
def test_doubles_that_are_no_such_integers_are_refused(text: bytes) -> None:
    with pytest.raises(CanonicalJsonError):
        parse_json_object(b'{"n":' + text + b"}")


@quick
@given(any_json)
def test_any_value_gives_bytes_or_the_one_error(value: object) -> None:
    try:
        data = canonical_json(value)
    except CanonicalJsonError:
        return
    assert orjson.loads(data) == value


@quick
@given(st.binary(max_size=40) | any_json.map(lambda value: repr(value).encode("utf-8", "replace")))
def test_any_bytes_give_an_object_or_the_one_error(data: bytes) -> None:
    try:
        value = parse_json_object(data)
    except CanonicalJsonError:
        return
    assert parse_json_object(canonical_json(value)) == value


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"a":[1,{"b":"1.5 and [[["}],"é":9007199254740}', True),
        ('{"a":[true,false,null,true]}', True),
        ('{"a":"said \\"1.5\\"","b":1}', True),
        ('{"a":"\U0001f600"}', True),
        ('{"\U0001f600":1}', False),
        ('{"\ue000":1}', False),
        ('{"a":1234567890123456}', True),
        ('{"a":[{},{},{},[],[]]}', True),
        ('{ "a": [{"b": 1}, {"b": 2}],\n "a": [-0] }', True),
    ],
)
def test_text_that_needs_no_walk_is_told_like_any_other(text: str, plain: bool) -> None:
    assert check_decoded(orjson.loads(text), text.encode(), max_depth=3) is plain


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1.0}',
        '{"a":[-1e30]}',
        '{"a":[true,1E30,"e"]}',
        '{"a":[true,9007199254740992]}',
        '{"a":-9007199254740992}',
        '{"a":18446744073709551616}',
        '{"a":"\\"","b":1.5}',
        '{"a":[[[[]]]]}',
        '{"a":{"a":{"a":{"a":1}}}}',
        '{"a":[{},{},{},[],[],[{"b":[]}]]}',
    ],
)
def test_text_without_a_canonical_form_is_found_without_a_walk_too(text: str) -> None:
    with pytest.raises(CanonicalJsonError):
        check_decoded(orjson.loads(text), text.encode(), max_depth=3)


@quick
@given(any_json, st.sampled_from([None, 1]), st.booleans())
def test_text_says_of_a_value_what_the_walk_says(value: object, indent: int | None, ascii_only: bool) -> None:
    try:
        # Not ``canonical_json``: values that have no canonical form are to be seen too, and any form of text.
        text = json.dumps({"a": value}, indent=indent, ensure_ascii=ascii_only).encode()
        decoded = orjson.loads(text)
    except (TypeError, ValueError):
        return
    try:
        expected = check_json(decoded)
    except CanonicalJsonError:
        with pytest.raises(CanonicalJsonError):
            check_decoded(decoded, text)
        return
    assert check_decoded(decoded, text) is expected
