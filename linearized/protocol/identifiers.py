"""Names of servers, rooms, users, devices, events and keys, and the MIMI URIs for the same things.

Draft, sections Server Names, Rooms, Users, Devices, Events, Signing; draft-ietf-mimi-protocol, section 3
(URIs). Identifiers are case sensitive. Two identifiers are the same thing exactly when they are the same
string: that is why each user, device and room has one URI spelling, and any other is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from sys import intern
from urllib.parse import quote, unquote

from linearized.exceptions import IdentifierError

MAX_IDENTIFIER_CHARS = 255
"""Draft: user and room IDs MUST NOT exceed 255 characters; we hold device, event and key IDs to the same."""

MAX_HOSTNAME_CHARS = 255
MAX_PORT = 65535

KEPT = 8192
"""Identifiers of each kind whose reading is kept: the same few name a busy room's servers, users and events
over and over, some twenty times an event. At most 400 bytes each, since longer ones are refused before."""

KEPT_USERS = 16_384
"""User URIs whose reading is kept: each name in a participant list is read whenever the list has changed.
Some 200 bytes each; a localpart of nothing but rare characters takes three kilobytes."""

_MAX_SERVER_NAME_CHARS = MAX_HOSTNAME_CHARS + 6
"""With a colon and a port of five digits."""

# RFC 1123, section 2.1: dot-separated labels of letters, digits and inner hyphens, each up to 63 characters
# (RFC 1035).
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SERVER_NAME = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?")
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_ROOM_LOCALPART = re.compile(r"[A-Za-z0-9._~-]+")
_NEW_USER_LOCALPART = re.compile(r"[0-9a-z.=_/+-]+")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_]+")
_EVENT_ID = re.compile(r"\$[A-Za-z0-9_-]+")
_KEY_ID = re.compile(r"ed25519:[A-Za-z0-9_]+")
_URI = re.compile(r"mimi://([^/]*)(?:/([a-z]+)/(.*))?", re.DOTALL)
_PATH_SAFE = "!$&'()*+,;=@"
"""What RFC 3986 lets stand in a path segment besides the unreserved characters, less the colon."""


def is_server_name(value: object) -> bool:
    """Whether ``value`` is a host name per RFC 1123 with an optional port, and no IP address literal."""
    return isinstance(value, str) and len(value) <= _MAX_SERVER_NAME_CHARS and _is_server_name(value)


@lru_cache(KEPT)
def _is_server_name(name: str) -> bool:
    match = _SERVER_NAME.fullmatch(name)
    if match is None:
        return False
    host, port = match.groups()
    # "A server MUST NOT use a literal IPv4 or IPv6 address as a server name."
    if _IPV4.fullmatch(host) or len(host) > MAX_HOSTNAME_CHARS:
        return False
    return port is None or int(port) <= MAX_PORT


def is_room_id(value: object) -> bool:
    """Whether ``value`` matches ``"!" room_id_localpart ":" server_name``, at most 255 characters."""
    return isinstance(value, str) and len(value) <= MAX_IDENTIFIER_CHARS and _is_room_id(value)


@lru_cache(KEPT)
def _is_room_id(room_id: str) -> bool:
    if not room_id.startswith("!"):
        return False
    localpart, _, domain = room_id[1:].partition(":")
    return _ROOM_LOCALPART.fullmatch(localpart) is not None and is_server_name(domain)


def is_user_id(value: object) -> bool:
    """Whether ``value`` is a user ID as ``parse_user_id`` reads it (historical localparts included)."""
    return isinstance(value, str) and len(value) <= MAX_IDENTIFIER_CHARS and _is_user_id(value)


@lru_cache(KEPT)
def _is_user_id(user_id: str) -> bool:
    if not user_id.startswith("@"):
        return False
    localpart, _, domain = user_id[1:].partition(":")
    # A lone surrogate cannot be encoded, so such a string could never have been received.
    return bool(localpart) and "\0" not in localpart and _is_unicode(localpart) and is_server_name(domain)


def is_new_user_id(value: object) -> bool:
    """Whether ``value`` is a user ID by the draft's strict grammar, which names we create must follow."""
    return (
        isinstance(value, str)
        and is_user_id(value)
        and _NEW_USER_LOCALPART.fullmatch(value[1:].partition(":")[0]) is not None
    )


def hub_user(server_name: str) -> str:
    """The sender of entries that a hub itself makes, or whose true sender only members of the group see.

    Its localpart is none that anybody can register.
    """
    return f"@_mimi:{server_name}"


def is_device_id(value: object) -> bool:
    """Whether ``value`` is one or more ASCII letters, digits and underscores."""
    return _matches(_DEVICE_ID, value)


def is_event_id(value: object) -> bool:
    """Whether ``value`` is ``$`` and a URL-safe unpadded base64 string."""
    return _matches(_EVENT_ID, value)


def is_key_id(value: object) -> bool:
    """Whether ``value`` is ``ed25519:`` and a key version."""
    return _matches(_KEY_ID, value)


def parse_user_id(user_id: str) -> tuple[str, str]:
    """Split a user ID into localpart and server name.

    Historical Matrix localparts are read too: any characters but ``:`` and NUL, at least one.

    Raises:
        IdentifierError: ``user_id`` is no user ID.
    """
    if not is_user_id(user_id):
        raise IdentifierError("not a user ID")
    localpart, _, domain = user_id[1:].partition(":")
    return localpart, domain


def user_domain(user_id: str) -> str:
    """Give the server name of a user ID.

    Raises:
        IdentifierError: ``user_id`` is no user ID.
    """
    return parse_user_id(user_id)[1]


def parse_room_id(room_id: str) -> tuple[str, str]:
    """Split a room ID into localpart and server name.

    Raises:
        IdentifierError: ``room_id`` is no room ID.
    """
    if not is_room_id(room_id):
        raise IdentifierError("not a room ID")
    localpart, _, domain = room_id[1:].partition(":")
    return localpart, domain


def room_domain(room_id: str) -> str:
    """Give the server name that is the namespace of a room ID (not necessarily its hub).

    Raises:
        IdentifierError: ``room_id`` is no room ID.
    """
    return parse_room_id(room_id)[1]


def user_uri(user_id: str) -> str:
    """Give the MIMI URI of a user: ``@alice:a.example`` is ``mimi://a.example/u/alice``.

    Raises:
        IdentifierError: ``user_id`` is no user ID.
    """
    localpart, domain = parse_user_id(user_id)
    return f"mimi://{domain}/u/{_encode_segment(localpart)}"


@lru_cache(KEPT_USERS)
def user_id_from_uri(uri: str) -> str:
    """Give the user ID of a MIMI user URI; the inverse of ``user_uri``.

    Raises:
        IdentifierError: ``uri`` is no user URI, or not in the one spelling ``user_uri`` gives.
    """
    domain, rest = _split_uri(uri, "u")
    return _user_id(_decode_segment(rest), domain)


def client_uri(user_id: str, device_id: str) -> str:
    """Give the MIMI URI of a device: ``mimi://a.example/d/alice/ABC``.

    Raises:
        IdentifierError: ``user_id`` or ``device_id`` does not match its grammar.
    """
    localpart, domain = parse_user_id(user_id)
    if not is_device_id(device_id):
        raise IdentifierError("not a device ID")
    return f"mimi://{domain}/d/{_encode_segment(localpart)}/{device_id}"


def client_from_uri(uri: str) -> tuple[str, str]:
    """Give the user ID and device ID of a MIMI client URI; the inverse of ``client_uri``.

    Raises:
        IdentifierError: ``uri`` names no user and device, or not in the one spelling ``client_uri`` gives.
    """
    domain, rest = _split_uri(uri, "d")
    localpart, _, device_id = rest.partition("/")
    if not is_device_id(device_id):
        raise IdentifierError("not a client URI with a user and a device")
    return _user_id(_decode_segment(localpart), domain), device_id


def room_uri(room_id: str) -> str:
    """Give the MIMI URI of a room: ``!clubhouse:a.example`` is ``mimi://a.example/r/clubhouse``.

    Raises:
        IdentifierError: ``room_id`` is no room ID.
    """
    # The room localpart's characters are RFC 3986's unreserved ones, so nothing needs percent-encoding.
    localpart, domain = parse_room_id(room_id)
    return f"mimi://{domain}/r/{localpart}"


@lru_cache(KEPT)
def room_id_from_uri(uri: str) -> str:
    """Give the room ID of a MIMI room URI; the inverse of ``room_uri``.

    Raises:
        IdentifierError: ``uri`` is no room URI.
    """
    return _room_id(*_split_uri(uri, "r"))


def group_id(room_id: str) -> bytes:
    """Give the MLS group ID of a room of ours: its MIMI group URI as ASCII bytes.

    Raises:
        IdentifierError: ``room_id`` is no room ID.
    """
    localpart, domain = parse_room_id(room_id)
    return f"mimi://{domain}/g/{localpart}".encode("ascii")


def room_id_from_group_id(group: bytes) -> str:
    """Give the room an MLS group ID belongs to: a MIMI group URI, or the room ID itself as the draft has it.

    Raises:
        IdentifierError: ``group`` is neither.
    """
    try:
        text = group.decode("ascii")
    except UnicodeDecodeError as error:
        raise IdentifierError("not the group ID of a room") from error
    if is_room_id(text):
        return text
    return _room_id(*_split_uri(text, "g"))


def provider_of_uri(uri: str) -> str:
    """Give the server name of any MIMI URI: provider, user, client, room or group.

    Raises:
        IdentifierError: ``uri`` is no MIMI URI.
    """
    match = _URI.fullmatch(uri)
    if match is None or not is_server_name(match[1]):
        raise IdentifierError("not a MIMI URI")
    return match[1]


def _split_uri(uri: str, kind: str) -> tuple[str, str]:
    domain = provider_of_uri(uri)
    _, _, path = uri.removeprefix(f"mimi://{domain}").partition("/")
    found, _, rest = path.partition("/")
    if found != kind:
        raise IdentifierError(f"not a MIMI /{kind}/ URI")
    return domain, rest


def _encode_segment(text: str) -> str:
    return quote(text, safe=_PATH_SAFE)


def _decode_segment(segment: str) -> str:
    try:
        text = unquote(segment, encoding="utf-8", errors="strict")
        canonical = _encode_segment(text)
    except UnicodeError as error:
        raise IdentifierError("a URI segment is not UTF-8") from error
    if canonical != segment:
        raise IdentifierError("a URI segment is not in its canonical spelling")
    return text


def _user_id(localpart: str, domain: str) -> str:
    user_id = f"@{localpart}:{domain}"
    if parse_user_id(user_id) != (localpart, domain):
        raise IdentifierError("a localpart holds a colon")
    # Leaves, participants and members are compared at each commit, which is quick where they are one object.
    return intern(user_id)


def _room_id(domain: str, localpart: str) -> str:
    room_id = f"!{localpart}:{domain}"
    if not is_room_id(room_id):
        raise IdentifierError("not the name of a room")
    return room_id


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return (
        isinstance(value, str) and len(value) <= MAX_IDENTIFIER_CHARS and pattern.fullmatch(value) is not None
    )


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
