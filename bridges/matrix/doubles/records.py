"""What the bridge remembers of people with two accounts: the links, and what was said as whom."""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Row
from typing import Final

from bridges.matrix.commands import PREFIX
from bridges.matrix.database import Database
from bridges.matrix.doubles.sealing import Sealing

LINK: Final = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Double:
    """A user of the homeserver and their address at a provider.

    Attributes:
        uri: ``mimi://PROVIDER/u/USER``.
        chat: the Matrix room in which they are told of their link; empty if there is none.
        code: what proves that the address is theirs; known to them only until it is said.
        until: until when that may be said, in milliseconds since the Unix epoch.
        linked: whether it was said.
        has_token: whether there is an access token that worked when it was last used.
    """

    user_id: str
    uri: str
    chat: str
    code: str
    until: int
    linked: bool
    has_token: bool

    @property
    def sentence(self) -> str:
        """What has to be said from the address."""
        return f"{PREFIX} {LINK} {self.user_id} {self.code}"


class Doubles:
    """The links, one for each user and one for each address."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def put(self, double: Double, token: str) -> None:
        """Keep a link that has still to be proved, with the token, in place of the user's last one."""
        self._database.run(
            "INSERT OR REPLACE INTO doubles (user_id, uri, token, chat, code, until) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            double.user_id,
            double.uri,
            self._sealing.token(double.user_id, token),
            double.chat,
            double.code,
            double.until,
        )

    def renew(self, user_id: str, token: str, chat: str) -> None:
        """Keep another token of a user who is linked."""
        self._database.run(
            "UPDATE doubles SET token = ?, chat = ? WHERE user_id = ?",
            self._sealing.token(user_id, token),
            chat,
            user_id,
        )

    def link(self, double: Double) -> Double | None:
        """The address is proved to be the user's; gives whose it was until now, if anybody else's."""
        with self._database.together():
            before = self.of_uri(double.uri)
            if before is not None and before.user_id != double.user_id:
                self.remove(before.user_id)
            self._database.run("UPDATE doubles SET linked = 1 WHERE user_id = ?", double.user_id)
        return before if before is not None and before.user_id != double.user_id else None

    def remove(self, user_id: str) -> bool:
        """Forget a user's token and address; whether there was any."""
        return bool(self._database.run("DELETE FROM doubles WHERE user_id = ?", user_id))

    def of_user(self, user_id: str) -> Double | None:
        """By the Matrix user, whether proved or not."""
        return _double(self._database.first("SELECT * FROM doubles WHERE user_id = ?", user_id))

    def of_uri(self, uri: str) -> Double | None:
        """By the address, if that is proved to be the user's."""
        return _double(self._database.first("SELECT * FROM doubles WHERE uri = ? AND linked = 1", uri))

    def token(self, user_id: str) -> str | None:
        """The access token of a user who is linked, unless it no longer works.

        Raises:
            StateFileError: it was sealed with another key.
        """
        row = self._database.first("SELECT token FROM doubles WHERE user_id = ? AND linked = 1", user_id)
        sealed = None if row is None else row["token"]
        return None if sealed is None else self._sealing.open_token(user_id, sealed)

    def drop_token(self, user_id: str, token: str) -> None:
        """A token no longer works. The link stays: it was proved. Another token that came meanwhile stays,
        too.
        """
        with self._database.together():
            if self.token(user_id) == token:
                self._database.run("UPDATE doubles SET token = NULL WHERE user_id = ?", user_id)


def _double(row: Row | None) -> Double | None:
    if row is None:
        return None
    return Double(
        user_id=row["user_id"],
        uri=row["uri"],
        chat=row["chat"],
        code=row["code"],
        until=row["until"],
        linked=bool(row["linked"]),
        has_token=row["token"] is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """An event that somebody with two accounts causes in Matrix: the ``number``-th of an event in the log.

    Attributes:
        user_id: as whom it is said; decided before it is first sent.
        redacts: the Matrix event it redacts, if it does.
        begun: when it was first to be sent, in milliseconds since the Unix epoch.
        event_id: what it became, once that is known.
    """

    log_event_id: str
    number: int
    matrix_room_id: str
    user_id: str
    redacts: str | None
    begun: int
    event_id: str | None = None


class Sayings:
    """Those events, and how far people with two accounts have read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, log_event_id: str, number: int) -> Saying | None:
        """By the place in the log."""
        return _saying(
            self._database.first(
                "SELECT * FROM sayings WHERE log_event_id = ? AND number = ?", log_event_id, number
            )
        )

    def decide(self, saying: Saying) -> None:
        """Write down as whom it is said; in place of what was decided before."""
        self._database.run(
            "INSERT OR REPLACE INTO sayings VALUES (?, ?, ?, ?, ?, ?, ?)",
            saying.log_event_id,
            saying.number,
            saying.matrix_room_id,
            saying.user_id,
            saying.redacts,
            saying.begun,
            saying.event_id,
        )

    def settle(self, saying: Saying, event_id: str) -> None:
        """The homeserver has it, as this event."""
        self._database.run(
            "UPDATE sayings SET event_id = ? WHERE log_event_id = ? AND number = ?",
            event_id,
            saying.log_event_id,
            saying.number,
        )

    def author(self, event_id: str) -> str | None:
        """As whom an event of somebody with two accounts was said; ``None`` for every other."""
        row = self._database.first("SELECT user_id FROM sayings WHERE event_id = ?", event_id)
        return None if row is None else str(row["user_id"])

    def redactions(self, event_id: str) -> list[Saying]:
        """Those that redact an event."""
        rows = self._database.all("SELECT * FROM sayings WHERE redacts = ?", event_id)
        return [saying for saying in map(_saying, rows) if saying is not None]

    def will_read(self, matrix_room_id: str, user_id: str, event_id: str) -> None:
        """A receipt of a user is about to be sent by us."""
        self._database.run(
            "INSERT OR REPLACE INTO readings VALUES (?, ?, ?)", matrix_room_id, user_id, event_id
        )

    def has_read(self, matrix_room_id: str, user_id: str, event_id: str) -> bool:
        """Whether a user's newest receipt that we sent is this one."""
        found = self._database.first(
            "SELECT 1 FROM readings WHERE matrix_room_id = ? AND user_id = ? AND event_id = ?",
            matrix_room_id,
            user_id,
            event_id,
        )
        return found is not None


def _saying(row: Row | None) -> Saying | None:
    if row is None:
        return None
    return Saying(
        log_event_id=row["log_event_id"],
        number=row["number"],
        matrix_room_id=row["matrix_room_id"],
        user_id=row["user_id"],
        redacts=row["redacts"],
        begun=row["begun"],
        event_id=row["event_id"],
    )
