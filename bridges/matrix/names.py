"""Names on both sides: which Matrix user stands for whom, and links that mention people."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, unquote

from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import is_room_id, is_user_id, parse_user_id, user_id_from_uri, user_uri

MATRIX_TO = "https://matrix.to/#/"
# Between provider and user in a ghost's localpart; no server name has an underscore.
_SEPARATOR = "_"

# Longer names hide what stands behind them.
MAX_NAME = 100
# As much of a name is looked at: most of it may be invisible, but not all of 64 KiB.
_MAX_CHOSEN = 1000
# Letters that show nothing: the Hangul fillers and the empty Braille pattern.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")

# In the place of a character that nobody could see.
_HIDDEN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How people are called: ``domain`` is the homeserver's, ``prefix`` begins every ghost's localpart."""

    domain: str
    prefix: str = "_lin_"

    @property
    def bot(self) -> str:
        """The bridge's own user on the homeserver."""
        return f"@{self.prefix}bot:{self.domain}"

    def is_ours(self, user_id: str) -> bool:
        """Whether a Matrix user exists only through this bridge: its bot or a ghost."""
        return user_id.startswith(f"@{self.prefix}") and user_id.endswith(f":{self.domain}")

    def is_bridged(self, user_id: str) -> bool:
        """Whether this is a user of the homeserver itself, whom the bridge represents at the provider."""
        if self.is_ours(user_id):
            return False
        try:
            return parse_user_id(user_id)[1] == self.domain
        except IdentifierError:  # not a user ID at all
            return False

    def ghost(self, uri: str) -> str:
        """The Matrix user ID of someone at a provider.

        ``mimi://b.example/u/bob`` is ``@_lin_b.example_bob:matrix.example``. Characters a new user ID may
        not have are written ``=`` and two hex digits, as the Matrix specification suggests for bridges; so
        is a port's colon.

        Raises:
            IdentifierError: ``uri`` is no user URI.
        """
        localpart, provider = parse_user_id(user_id_from_uri(uri))
        return f"@{self.prefix}{_escape(provider)}{_SEPARATOR}{_escape(localpart)}:{self.domain}"

    def uri(self, ghost: str) -> str:
        """The inverse of ``ghost``.

        Raises:
            IdentifierError: the user is no ghost of this bridge.
        """
        if not self.is_ours(ghost):
            raise IdentifierError("not a ghost of this bridge")
        body = ghost[len(self.prefix) + 1 : -len(self.domain) - 1]
        provider, separator, localpart = body.partition(_SEPARATOR)
        if not separator or not localpart or not provider:
            raise IdentifierError("not a ghost of this bridge")
        return user_uri(f"@{_unescape(localpart)}:{_unescape(provider)}")

    def alias(self, room_id: str) -> str:
        """The alias by which a homeserver's user joins a provider's room: ``!clubhouse:a.example`` is
        ``#_lin_a.example_clubhouse:matrix.example``, escaped as ``ghost``.
        """
        localpart, _, provider = room_id[1:].partition(":")
        return f"#{self.prefix}{_escape(provider)}{_SEPARATOR}{_escape(localpart)}:{self.domain}"

    def room_of(self, alias: str) -> str:
        """The inverse of ``alias``.

        Raises:
            IdentifierError: it is no alias of a room.
        """
        head, tail = f"#{self.prefix}", f":{self.domain}"
        body = alias[len(head) : -len(tail)]
        provider, _, localpart = body.partition(_SEPARATOR)
        room_id = f"!{_unescape(localpart)}:{_unescape(provider)}"
        if not alias.startswith(head) or not alias.endswith(tail) or not is_room_id(room_id):
            raise IdentifierError("not an alias of this bridge")
        return room_id

    def matrix_user(self, uri: str) -> str:
        """The Matrix user a user URI stands for: one of the homeserver's own, or a ghost."""
        user_id = user_id_from_uri(uri)
        return user_id if self.is_bridged(user_id) else self.ghost(uri)

    def display_name(self, uri: str, chosen: str = "") -> str:
        """How a ghost is called: ``bob (b.example)``, or with a ``chosen`` name ``Bobby (@bob:b.example)``.

        What is in the parentheses is not for anybody to choose, and nothing before them looks like it. So
        nobody at another provider can be called as one of the homeserver's own users is, not even with
        letters that only look the same.
        """
        user_id = user_id_from_uri(uri)
        localpart, provider = parse_user_id(user_id)
        name = presentable(chosen)
        return f"{name} ({visible(user_id)})" if name else f"{visible(localpart)} ({provider})"

    def link_to_mimi(self, target: str) -> str:
        """A link's target as the MIMI side should see it: a matrix.to link to a user becomes the user's
        URI.
        """
        if not target.startswith(MATRIX_TO):
            return target
        user_id = unquote(target[len(MATRIX_TO) :]).partition("?")[0]
        if not is_user_id(user_id):
            return target
        try:
            return self.uri(user_id) if self.is_ours(user_id) else user_uri(user_id)
        except IdentifierError:  # the bot, or no name we know: leave the link alone
            return target

    def link_to_matrix(self, target: str) -> str:
        """The other way: a user URI becomes a matrix.to link to the user or its ghost."""
        try:
            return MATRIX_TO + quote(self.matrix_user(target), safe="@:")
        except IdentifierError:  # any other link
            return target


def presentable(name: str) -> str:
    """A name somebody chose, fit to stand before an address: compatibility forms are resolved, and what
    cannot be seen, turns the direction around, or could pass for an address is left out.
    """
    text = unicodedata.normalize("NFKC", name[:_MAX_CHOSEN])
    kept = "".join(
        " " if one.isspace() else one
        for one in text
        if one.isspace() or not (unicodedata.category(one)[0] == "C" or one in _FILLERS)
    )
    plain = "".join(one for one in kept if one != "@" and unicodedata.category(one) not in ("Ps", "Pe"))
    return " ".join(plain.split())[:MAX_NAME]


def visible(text: str) -> str:
    """A user's ID or a part of it, to be shown: without what turns its direction around, breaks its line, or
    cannot be seen.
    """
    return "".join(_HIDDEN if unicodedata.category(one)[0] in "CZ" else one for one in text)


def _escape(text: str) -> str:
    return "".join(
        character
        if character.isascii() and (character.islower() or character.isdigit() or character in ".-/")
        else "".join(f"={byte:02x}" for byte in character.encode())
        for character in text
    )


def _unescape(text: str) -> str:
    try:
        return unquote(text.replace("%", "%25").replace("=", "%"), errors="strict")
    except UnicodeDecodeError as error:
        raise IdentifierError("not a ghost of this bridge") from error
