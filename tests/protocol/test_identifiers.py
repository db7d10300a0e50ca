from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import IdentifierError
from linearized.protocol import identifiers
from linearized.protocol.identifiers import (
    client_from_uri,
    client_uri,
    group_id,
    is_device_id,
    is_event_id,
    is_key_id,
    is_new_user_id,
    is_room_id,
    is_server_name,
    is_user_id,
    parse_room_id,
    parse_user_id,
    provider_of_uri,
    room_domain,
    room_id_from_group_id,
    room_id_from_uri,
    room_uri,
    user_domain,
    user_id_from_uri,
    user_uri,
)
from tests.protocol.support import quick, texts

user_ids = st.builds(lambda local: f"@{local}:a.example", st.text(max_size=12)).filter(is_user_id)
device_ids = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)
room_ids = st.builds(
    lambda local: f"!{local}:a.example:80", st.from_regex(r"[A-Za-z0-9._~-]{1,12}", fullmatch=True)
)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a.example",
        "A-b.Example",
        "1a.example",
        "a.example:1",
        "a.example:65535",
        "x" * 63 + ".y",
        "localhost:8448",
    ],
)
def test_host_names_with_optional_ports_are_server_names(name: str) -> None:
    assert is_server_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "a.",
        "-a.example",
        "a-.example",
        "a_b.example",
        "ä.example",
        "a.example:",
        "a.example:65536",
        "a.example:123456",
        "a.example:1:2",
        "1.2.3.4",
        "1.2.3.4:8448",
        "[::1]",
        "::1",
        "a.example\n",
        "x" * 64,
        "a." * 130 + "a",
        "a/b",
        None,
        7,
    ],
)
def test_other_things_are_no_server_names(name: object) -> None:
    assert not is_server_name(name)


@pytest.mark.parametrize(
    "user_id", ["@alice:a.example", "@watch/for/slashes:a.example", "@a=b+c._-1:a.example"]
)
def test_strict_user_ids_are_read_and_may_be_created(user_id: str) -> None:
    assert is_user_id(user_id)
    assert is_new_user_id(user_id)


@pytest.mark.parametrize(
    "user_id", ["@Alice:a.example", "@a b:a.example", "@ü:a.example", "@!#$:a.example", "@\n:a.example"]
)
def test_historical_user_ids_are_read_but_not_created(user_id: str) -> None:
    assert is_user_id(user_id)
    assert not is_new_user_id(user_id)


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        "@",
        "alice:a.example",
        "@alice",
        "@:a.example",
        "@alice:",
        "@a:b:a.example",
        "@a\0:a.example",
        "@\ud800:a.example",
        "@" + chr(0xDFFF) + ":a.example",
        "@alice:1.2.3.4",
        "@" + "a" * 246 + ":a.example",
        None,
        ["@alice:a.example"],
    ],
)
def test_other_things_are_no_user_ids(user_id: object) -> None:
    assert not is_user_id(user_id)
    assert not is_new_user_id(user_id)


LONGEST_HOST = ("x" * 63 + ".") * 3 + "x" * 63  # four labels: 255 characters


def test_the_longest_host_name_has_255_characters_beside_its_port() -> None:
    for port in ("", ":1", ":65535"):
        assert is_server_name(LONGEST_HOST + port)
        assert not is_server_name(LONGEST_HOST[:-2] + ".xx" + port)


def test_the_longest_room_event_and_key_ids_have_255_characters() -> None:
    for longest, longer in (
        ("!" + "r" * 244 + ":a.example", "!" + "r" * 245 + ":a.example"),
        ("$" + "e" * 254, "$" + "e" * 255),
        ("ed25519:" + "k" * 247, "ed25519:" + "k" * 248),
    ):
        assert len(longest) == 255
        assert [is_room_id(longest), is_event_id(longest), is_key_id(longest)].count(True) == 1
        assert not any((is_room_id(longer), is_event_id(longer), is_key_id(longer)))


def test_the_longest_user_id_has_255_characters() -> None:
    assert is_user_id("@" + "ü" * 244 + ":a.example")
    assert not is_user_id("@" + "ü" * 245 + ":a.example")


def test_identifiers_split_into_localpart_and_domain() -> None:
    assert parse_user_id("@alice:a.example:80") == ("alice", "a.example:80")
    assert user_domain("@alice:a.example:80") == "a.example:80"
    assert parse_room_id("!club~1:a.example") == ("club~1", "a.example")
    assert room_domain("!club~1:a.example") == "a.example"


@pytest.mark.parametrize(
    "room_id",
    [
        "",
        "!",
        "club:a.example",
        "!:a.example",
        "!a b:a.example",
        "!a:",
        "!a",
        "!" + "a" * 246 + ":a.example",
        None,
    ],
)
def test_other_things_are_no_room_ids(room_id: object) -> None:
    assert not is_room_id(room_id)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (is_device_id, "ABC_1", "A-B"),
        (is_device_id, "0003", ""),
        (is_event_id, "$nKHVqt3iyLA_HEE8lT1yUaaVjjBRR-fAqpN4t7opadc", "nKHV"),
        (is_event_id, "$a", "$a+b"),
        (is_key_id, "ed25519:a_1", "ed25519:a-1"),
        (is_key_id, "ed25519:0", "curve25519:0"),
    ],
)
def test_devices_events_and_keys_have_their_grammars(
    check: Callable[[object], bool], good: str, bad: str
) -> None:
    assert check(good)
    assert not check(bad)
    assert not check(good + "\n")
    assert not check(good + "a" * 255)
    assert not check(None)


def test_the_uris_of_the_documentation() -> None:
    assert user_uri("@alice:b.example") == "mimi://b.example/u/alice"
    assert client_uri("@alice:matrix.example", "BRIDGE") == "mimi://matrix.example/d/alice/BRIDGE"
    assert room_uri("!clubhouse:a.example") == "mimi://a.example/r/clubhouse"
    assert group_id("!clubhouse:a.example") == b"mimi://a.example/g/clubhouse"


def test_only_what_a_path_segment_cannot_hold_is_percent_encoded() -> None:
    assert user_uri("@a/b+c=d?é%:b.example") == "mimi://b.example/u/a%2Fb+c=d%3F%C3%A9%25"


@quick
@given(user_ids, device_ids)
def test_user_and_client_uris_are_lossless(user_id: str, device_id: str) -> None:
    assert user_id_from_uri(user_uri(user_id)) == user_id
    assert client_from_uri(client_uri(user_id, device_id)) == (user_id, device_id)
    assert provider_of_uri(client_uri(user_id, device_id)) == "a.example"
    assert user_uri(user_id).isascii()


@quick
@given(room_ids)
def test_room_uris_and_group_ids_are_lossless(room_id: str) -> None:
    assert room_id_from_uri(room_uri(room_id)) == room_id
    assert room_id_from_group_id(group_id(room_id)) == room_id
    assert room_id_from_group_id(room_id.encode()) == room_id
    assert provider_of_uri(room_uri(room_id)) == "a.example:80"


@quick
@given(
    st.builds(lambda kind, rest: f"mimi://a.example/{kind}/{rest}", st.sampled_from("udrgx"), texts) | texts
)
def test_each_name_has_one_uri_and_reading_gives_it_or_the_one_error(uri: str) -> None:
    for read, write in ((user_id_from_uri, user_uri), (room_id_from_uri, room_uri)):
        try:
            name = read(uri)
        except IdentifierError:
            continue
        assert write(name) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "mimi://a.example/u/%61lice",  # a second spelling of alice
        "mimi://a.example/u/a%2fb",  # lower-case hex
        "mimi://a.example/u/a:b",
        "mimi://a.example/u/a%3Ab",  # a localpart holds no colon
        "mimi://a.example/u/a%3Ab.example",
        "mimi://80/u/a%3Ab",  # would read as user a of b:80
        "mimi://a.example/u/a/b",
        "mimi://a.example/u/%FF",
        "mimi://a.example/u/é",
        "mimi://a.example/u/\ud800",
        "mimi://a.example/u/",
        "mimi://a.example/u",
        "mimi://a.example",
        "mimi://a.example/d/alice",
        "mimi://-/u/alice",
        "mimi:///u/alice",
        "https://a.example/u/alice",
        "mimi://a.example/u/alice\n",
        "",
    ],
)
def test_what_is_no_user_uri_is_refused(uri: str) -> None:
    with pytest.raises(IdentifierError):
        user_id_from_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "mimi://a.example/d/ClientA1",
        "mimi://a.example/d/alice/A-B",
        "mimi://a.example/d/alice/A/B",
        "mimi://a.example/d//A",
        "mimi://a.example/u/alice/A",
    ],
)
def test_what_is_no_client_uri_with_user_and_device_is_refused(uri: str) -> None:
    with pytest.raises(IdentifierError):
        client_from_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["mimi://a.example/r/a%2Db", "mimi://a.example/r/", "mimi://a.example/r/a/b", "mimi://a.example/g/a"],
)
def test_what_is_no_room_uri_is_refused(uri: str) -> None:
    with pytest.raises(IdentifierError):
        room_id_from_uri(uri)


@pytest.mark.parametrize("group", [b"", b"\xff", b"mimi://a.example/r/a", b"!a", b"\x00" * 16])
def test_a_group_id_that_names_no_room_is_refused(group: bytes) -> None:
    with pytest.raises(IdentifierError):
        room_id_from_group_id(group)


def test_the_provider_of_a_bare_provider_uri_is_its_host() -> None:
    assert provider_of_uri("mimi://a.example:8448") == "a.example:8448"


@pytest.mark.parametrize(
    "uri", ["mimi://a.example/", "mimi://a.example?u", "mimi://1.2.3.4/u/a", "xmimi://a.example/u/a"]
)
def test_a_provider_is_read_only_from_mimi_uris(uri: str) -> None:
    with pytest.raises(IdentifierError):
        provider_of_uri(uri)


@pytest.mark.parametrize("function", ["user_uri", "room_uri", "group_id", "user_domain", "room_domain"])
def test_functions_that_take_an_identifier_refuse_what_is_none(function: str) -> None:
    with pytest.raises(IdentifierError):
        getattr(identifiers, function)("nonsense")


def test_a_client_uri_needs_a_device_id() -> None:
    with pytest.raises(IdentifierError, match="device"):
        client_uri("@alice:a.example", "A/B")


def test_names_that_differ_in_case_are_different_names() -> None:
    names = ["eXaMpLe.OrG", "example.org", "EXAMPLE.ORG"]
    assert all(is_server_name(name) for name in names)
    assert {user_domain(f"@alice:{name}") for name in names} == set(names)
    assert {room_domain(f"!abc:{name}") for name in names} == set(names)
    assert len({user_uri(f"@{who}:a.example") for who in ("alice", "Alice")}) == 2
    assert room_uri("!abc:a.example") != room_uri("!ABC:a.example")
