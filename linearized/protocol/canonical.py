"""Canonical JSON (draft, Canonical JSON; RFC 8785) and strict reading of JSON objects.

The domain is narrower than RFC 8785's: no floating point numbers, integers within ±(2**53 - 1), no lone
surrogates, at most ``MAX_DEPTH`` levels. On that domain the bytes are those of RFC 8785.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeAlias

import orjson

from linearized.exceptions import CanonicalJsonError

JsonObject: TypeAlias = dict[str, Any]

MAX_INTEGER = 2**53 - 1
"""Largest magnitude every JSON implementation can hold exactly (RFC 8785, section 3.2.2.3; I-JSON)."""

MAX_DEPTH = 200
"""Levels of nesting. orjson stops encoding at 254; a signed request with an event (100) in it stays below."""

_FIRST_AMBIGUOUS = "\ud800"
"""Below this code point, UTF-16 code unit order and code point order are the same."""

_FAR = re.compile(rb"[\xee-\xf4]")
"""Begins a character from U+E000 on in UTF-8; between ``_FIRST_AMBIGUOUS`` and that there are none."""

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * len(str(MAX_INTEGER))
"""What is in a number with as many digits as the largest, or more, once each digit is a zero."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_USUAL_DEPTH = 16
"""Levels that a transaction of events nests, with some to spare. Every other is a pass over the brackets."""

_KEYS: frozenset[type] = frozenset({str})
_WITHOUT_LIMITS: frozenset[type] = frozenset({str, bool, type(None)})
_VALUES: frozenset[type] = _WITHOUT_LIMITS | {int, dict, list}


def check_json(value: object, *, max_depth: int = MAX_DEPTH) -> bool:
    """Walk a decoded JSON value once and refuse what has no canonical form.

    Takes any Python value; only the exact types ``dict``, ``list``, ``str``, ``int``, ``bool`` and ``None``
    pass. Returns True if all object keys lie where code point order equals UTF-16 order, so a plain sort is
    canonical.

    Raises:
        CanonicalJsonError: float, integer out of range, key that is no string, other type, or deeper than
            ``max_depth``.
    """
    plain = True
    level: list[Any] = [[value]]
    for _ in range(max_depth + 1):
        deeper: list[Any] = []
        for container in level:
            if type(container) is dict:
                plain &= _keys_are_plain(container)
                _check_items(container.values(), deeper)
            else:
                _check_items(container, deeper)
        if not deeper:
            return plain
        level = deeper
    raise CanonicalJsonError(f"nested deeper than {max_depth} levels")


def _keys_are_plain(container: dict[str, object]) -> bool:
    if not set(map(type, container)) <= _KEYS:
        raise CanonicalJsonError("an object key is not a string")
    keys = "".join(container)
    return keys.isascii() or max(keys) < _FIRST_AMBIGUOUS


def _check_items(items: Collection[object], deeper: list[Any]) -> None:
    """Check scalars, put containers into ``deeper``. Exact types: the encoder would take subclasses too.

    Every event passes here more than once, so the usual cases are told by the set of their types.
    """
    kinds = set(map(type, items))
    if kinds <= _WITHOUT_LIMITS:
        return
    if not kinds <= _VALUES:
        foreign = next(type(item) for item in items if type(item) not in _VALUES)
        raise CanonicalJsonError(f"{foreign.__name__} values are not allowed")
    for item in items:
        if type(item) is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise CanonicalJsonError("an integer lies outside ±(2**53 - 1)")
        elif type(item) is dict or type(item) is list:
            deeper.append(item)


def check_decoded(value: object, text: bytes, *, max_depth: int = MAX_DEPTH) -> bool:
    """The same for what ``orjson.loads`` makes of ``text``, in a third of the time for most.

    ``text`` is valid JSON, in whatever form. Where it holds no backslash, its quotes tell what is outside
    strings: brackets, and numbers. The walk decides about all but the usual.

    Raises:
        CanonicalJsonError: as ``check_json``.
    """
    if b"\\" not in text and (text.isascii() or _FAR.search(text) is None):
        outside = b"".join(text.split(b'"')[::2])
        if (
            _is_shallow(outside, max_depth)
            and _LONG_NUMBER not in outside.translate(_DIGITS)
            and not _has_fraction(outside)
        ):
            return True
    return check_json(value, max_depth=max_depth)


def _is_shallow(outside: bytes, max_depth: int) -> bool:
    """Whether JSON text without its strings surely nests no deeper; of deep text it does not find out."""
    if outside.count(b"{") + outside.count(b"[") <= max_depth:
        return True
    brackets = outside.translate(None, _NO_BRACKETS)
    for _ in range(min(_USUAL_DEPTH, max_depth) // 2):  # a pass takes away two levels of "[{}]"
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return not brackets


def _has_fraction(outside: bytes) -> bool:
    """Whether JSON text without its strings may hold a number that is written with a point or an exponent."""
    literals = outside.count(b"true") + outside.count(b"false")
    return b"." in outside or b"E" in outside or outside.count(b"e") != literals


def canonical_json(value: object, *, code_point_order: bool = False) -> bytes:
    """Encode a decoded JSON value as canonical JSON (UTF-8 bytes, no insignificant whitespace).

    RFC 8785, section 3.2.3: property names are sorted by their UTF-16 code units. With ``code_point_order``
    they are sorted by code points, which makes it Matrix's canonical JSON (Matrix, Appendices).

    Raises:
        CanonicalJsonError: the value has no canonical form, see ``check_json``; or a string holds a lone
            surrogate.
    """
    plain = check_json(value)
    return encode_checked(value, plain=plain or code_point_order)


def encode_checked(value: object, *, plain: bool) -> bytes:
    """Encode a value that ``check_json`` has walked; ``plain`` is what it returned, or whether keys are to be
    sorted by code point anyway.

    Raises:
        CanonicalJsonError: a string holds a lone surrogate (the walk leaves that to the encoder).
    """
    try:
        if plain:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return orjson.dumps(_sorted_by_utf16(value))
    except (TypeError, UnicodeEncodeError) as error:
        raise CanonicalJsonError("a string is not valid Unicode") from error


def parse_json_object(data: bytes) -> JsonObject:
    """Decode UTF-8 JSON text that must be an object, strictly; costs one decode and at most one walk.

    Raises:
        CanonicalJsonError: as ``parse_checked``.
    """
    return parse_checked(data)[0]


def parse_checked(data: bytes) -> tuple[JsonObject, bool]:
    """The same, with what ``check_json`` said of the object, for who encodes it again.

    Duplicate keys keep the last value (the decoder does not report them); everything derived from the result
    is encoded anew, so the bytes that arrived are never hashed, signed or passed on.

    Raises:
        CanonicalJsonError: not JSON, not an object, or outside the domain of ``check_json``.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CanonicalJsonError(f"not JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise CanonicalJsonError("not a JSON object")
    return value, check_decoded(value, data)


def _sorted_by_utf16(value: object) -> object:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _sorted_by_utf16(value[key]) for key in keys}
    if isinstance(value, list):
        return [_sorted_by_utf16(item) for item in value]
    return value
