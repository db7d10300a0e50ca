"""Whatever a peer sends: a typed value or one documented exception, never anything else."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.exceptions import InvalidInput, SignatureError
from linearized.protocol.identifiers import is_server_name
from linearized.server.discovery import WellKnown, _lifetime, _parse
from linearized.server.http import HttpError, Response, Route, Router, build_request
from linearized.server.key_documents import parse_document
from linearized.server.xmatrix import XMatrix, parse_header

from .test_http import nothing, receiver
from .test_keys import OLD, START, document

quick = settings(max_examples=200, derandomize=True, deadline=None)

TOKENS = st.text(alphabet=string.ascii_letters + string.digits + ".:-_", min_size=1, max_size=20)
VALUES = st.text(alphabet=string.printable.replace("\r", "").replace("\n", ""), max_size=30)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@quick
@given(st.text(max_size=200).map("X-Matrix ".__add__) | st.text(max_size=50))
def test_any_header_is_parsed_or_refused(value: str) -> None:
    try:
        header = parse_header(value)
    except SignatureError:
        return
    assert is_server_name(header.origin)
    assert header.signature


@quick
@given(
    st.dictionaries(TOKENS.filter(lambda name: ":" not in name), VALUES, max_size=5),
    st.permutations(["origin", "destination", "key", "sig"]),
)
def test_unknown_parameters_anywhere_change_nothing(extra: dict[str, str], order: list[str]) -> None:
    known = {"origin": "b.example", "destination": "a.example", "key": "ed25519:one", "sig": "c2ln"}
    names = {"origin", "destination", "key", "sig", "signature"}
    unknown: dict[str, str] = {}
    for name, value in extra.items():
        if name.lower() not in names and name.lower() not in {seen.lower() for seen in unknown}:
            unknown[name] = value
    parts = [f"{name}={quoted(value)}" for name, value in unknown.items()]
    parts += [f"{name}={quoted(known[name])}" for name in order]
    expected = XMatrix(origin="b.example", destination="a.example", key_id="ed25519:one", signature="c2ln")
    assert parse_header("X-Matrix " + ",".join(parts)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@quick
@given(
    st.dictionaries(
        st.sampled_from(
            ["server_name", "valid_until_ts", "verify_keys", "old_verify_keys", "signatures", "other"]
        ),
        JSON,
    )
)
def test_any_key_document_is_checked_or_refused(changes: dict[str, object]) -> None:
    try:
        parsed = parse_document({**document(OLD, until=START), **changes}, "b.example", START)
    except InvalidInput:
        return
    assert parsed.current == {OLD.key_id: OLD.verify_key}


@quick
@given(st.integers(100, 599), st.binary(max_size=60), st.text(max_size=40))
def test_any_delegation_is_a_server_name_or_none(status: int, body: bytes, cache_control: str) -> None:
    delegate = _parse(WellKnown(status=status, body=body, cache_control=cache_control))
    assert delegate is None or is_server_name(delegate)
    assert 0 <= _lifetime(cache_control) <= 48 * 3_600_000


@quick
@given(
    st.text(alphabet=string.ascii_letters + "/%{}?#\x00\xff", max_size=40),
    st.binary(max_size=60),
    st.lists(st.tuples(st.binary(min_size=1, max_size=10), st.binary(max_size=10)), max_size=4),
)
def test_any_target_and_headers_make_a_request_or_a_refusal(
    path: str, query: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    router = Router([Route("GET", "/a/{b}", nothing), Route("GET", "/a/{b}/c", nothing)])
    try:
        _, params = router.match("GET", path)
        request = build_request(
            {
                "type": "http",
                "method": "GET",
                "path": path,
                "raw_path": path.encode("latin-1"),
                "query_string": query,
                "headers": headers,
            },
            receiver(),
            params,
        )
    except HttpError:
        return
    assert request.raw_target.startswith(path)


@quick
@given(st.text(max_size=20))
def test_a_header_value_is_sent_as_it_is_or_not_at_all(value: str) -> None:
    try:
        response = Response(headers=(("x-name", value),))
    except ValueError:
        assert any(not (char == "\t" or " " <= char <= "~" or "\x80" <= char <= "\xff") for char in value)
        return
    assert response.headers[0][1].encode("latin-1").isascii() or max(value) >= "\x80"
