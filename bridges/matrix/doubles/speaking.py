"""Saying in Matrix what people at providers say: as their ghost or, for who has two accounts, as themselves.

As whom something is said is decided and written down before it is first sent, and so it stays, whatever
becomes of the token meanwhile: a repetition after a kill carries the same transaction ID of the same device.
If the homeserver then refuses, an attempt of before may have worked all the same; so the room is searched for
the mark that each such event carries. The mark is also how the event is known when the homeserver pushes it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import httpx
import structlog

from bridges.matrix.doubles.login import Login
from bridges.matrix.doubles.records import Doubles, Saying, Sayings
from bridges.matrix.doubles.user_api import UserApi
from bridges.matrix.failures import is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.names import Names
from bridges.matrix.rendering import Act, RedactEvent, SendEvent
from linearized.client import ApiError

# In the content of what is said as a user: the event of the log, and which of its parts this is.
MARK: Final = "dev.linearized.said_as"
# Pages (of a hundred events) searched for what a broken attempt may have sent, and how much later than our
# clock the homeserver's may be, in milliseconds.
MAX_PAGES: Final = 50
_PAGE: Final = 100
_SKEW_MS: Final = 600_000
_UNKNOWN_TOKEN, _TOO_MANY = 401, 429
# What is in the clear in an encrypted room as well.
_NEVER_ENCRYPTED: Final = frozenset({"m.reaction"})

JsonObject = dict[str, Any]
log = structlog.get_logger(__name__)


class Speaking:
    """Does what a message of the log becomes. ``bot`` is the homeserver as the bot; ``clock`` gives
    milliseconds.
    """

    def __init__(
        self,
        *,
        doubles: Doubles,
        sayings: Sayings,
        login: Login,
        base_url: str,
        http: httpx.AsyncClient,
        names: Names,
        bot: HomeserverApi,
        is_encrypted: Callable[[str], Awaitable[bool]],
        clock: Callable[[], int],
    ) -> None:
        self._doubles = doubles
        self._sayings = sayings
        self._login = login
        self._base_url, self._http = base_url, http
        self._names = names
        self._bot = bot
        self._is_encrypted = is_encrypted
        self._clock = clock

    async def act(
        self,
        ghost: HomeserverApi,
        act: Act,
        *,
        sender: str,
        matrix_room_id: str,
        log_event_id: str,
        number: int,
        ts: int | None,
    ) -> str:
        """Do it, and give the Matrix event it became. ``sender`` is the ghost, acting through ``ghost``;
        ``ts`` is in milliseconds since the Unix epoch, and counts for ghosts only.

        Raises:
            ClientError: the homeserver is away or refuses; doing it again continues.
        """
        txn_id = f"log-{log_event_id}-{number}"
        saying = self._sayings.find(log_event_id, number)
        again = saying is not None
        if saying is None:
            if self._doubles.of_uri(self._names.uri(sender)) is None and not self._is_change_of_users(act):
                return await _as_ghost(ghost, matrix_room_id, act, txn_id, ts)
            saying = Saying(
                log_event_id=log_event_id,
                number=number,
                matrix_room_id=matrix_room_id,
                user_id=self._speaker(sender, act),
                redacts=act.event_id if isinstance(act, RedactEvent) else None,
                begun=self._clock(),
            )
            self._sayings.decide(saying)
        event_id = saying.event_id
        if event_id is None and saying.user_id != sender:
            event_id = await self._as_user(saying, act, txn_id, again=again)
            if event_id is None:
                saying = replace(saying, user_id=sender)
                self._sayings.decide(saying)
        if event_id is None:
            event_id = await self._instead(ghost, matrix_room_id, act, txn_id, ts)
        self._sayings.settle(saying, event_id)
        return event_id

    def _speaker(self, sender: str, act: Act) -> str:
        """As whom somebody does something: what changes an event, as whoever it was said."""
        double = self._doubles.of_uri(self._names.uri(sender))
        if double is None or not double.has_token:
            return sender
        changed = _changed(act)
        if changed is not None:
            return double.user_id if self._sayings.author(changed) == double.user_id else sender
        return double.user_id

    def _is_change_of_users(self, act: Act) -> bool:
        """Whether this changes what was said as a user, who is no longer linked, perhaps."""
        changed = _changed(act)
        author = None if changed is None else self._sayings.author(changed)
        return author is not None and not self._names.is_ours(author)

    async def _as_user(self, saying: Saying, act: Act, txn_id: str, *, again: bool) -> str | None:
        """Do it as the user; ``None`` if the ghost has to, because it was not done and will not be."""
        token = self._doubles.token(saying.user_id)
        if _needs_keys(act) and await self._is_encrypted(saying.matrix_room_id):
            token = None  # a user speaks there with the keys of their own device, which are not ours
        if token is not None:
            user, room_id = UserApi(self._base_url, token=token, http=self._http), saying.matrix_room_id
            try:
                if isinstance(act, RedactEvent):
                    return await user.redact(room_id, act.event_id, txn_id=txn_id)
                return await user.send(room_id, act.type, {**act.content, MARK: _mark(saying)}, txn_id=txn_id)
            except ApiError as error:
                # Limits are the user's own; the ghost has none, and nobody waits for it.
                if is_passing(error) and error.status != _TOO_MANY:
                    raise
                log.info("a ghost speaks instead", user_id=saying.user_id, status=error.status)
                if error.status == _UNKNOWN_TOKEN:
                    await self._login.lost(saying.user_id, token)
        return await self._sent_before(saying) if again else None

    async def _sent_before(self, saying: Saying) -> str | None:
        """The event that an attempt of before sent, if it did."""
        position: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._bot.messages_before(saying.matrix_room_id, position, limit=_PAGE)
            for event in page.chunk:
                if self._is_this(saying, event):
                    return str(event["event_id"])
            position = page.end
            if position is None or not page.chunk or _time(page.chunk[-1]) < saying.begun - _SKEW_MS:
                break
        return None

    async def _instead(
        self, ghost: HomeserverApi, matrix_room_id: str, act: Act, txn_id: str, ts: int | None
    ) -> str:
        """Do as the ghost, or the bot, what may be meant for an event of the user's."""
        if self._is_change_of_users(act):
            if isinstance(act, RedactEvent):
                return await self._bot.redact(matrix_room_id, act.event_id, txn_id=txn_id, ts=ts)
            # A ghost cannot edit the user's event; it can say the new version.
            act = SendEvent(act.type, act.content.get("m.new_content", act.content))
        return await _as_ghost(ghost, matrix_room_id, act, txn_id, ts)

    async def read(self, matrix_room_id: str, sender: str, event_id: str) -> bool:
        """Let who has two accounts have read something as themselves; whether they have.

        Raises:
            ClientError: the homeserver is away.
        """
        double = self._doubles.of_uri(self._names.uri(sender))
        token = None if double is None else self._doubles.token(double.user_id)
        if double is None or token is None:
            return False
        self._sayings.will_read(matrix_room_id, double.user_id, event_id)
        try:
            await UserApi(self._base_url, token=token, http=self._http).receipt(matrix_room_id, event_id)
        except ApiError as error:
            if is_passing(error) and error.status != _TOO_MANY:
                raise
            if error.status == _UNKNOWN_TOKEN:
                await self._login.lost(double.user_id, token)
            return False
        return True

    # --- what comes back ---

    def is_echo(self, event: Mapping[str, Any]) -> bool:
        """Whether an event of a user's that the homeserver pushes is one that we sent for them."""
        content = event.get("content")
        content = content if isinstance(content, dict) else {}
        mark = content.get(MARK)
        log_event_id, _, number = mark.rpartition("/") if isinstance(mark, str) else ("", "", "")
        known = re.fullmatch("[0-9]{1,3}", number) is not None
        saying = self._sayings.find(log_event_id, int(number)) if known else None
        candidates = [] if saying is None else [saying]
        if event.get("type") == "m.room.redaction":
            redacted = event.get("redacts") or content.get("redacts")
            candidates += self._sayings.redactions(str(redacted))
        for saying in candidates:
            if self._is_this(saying, event):
                self._sayings.settle(saying, str(event.get("event_id")))
                return True
        return False

    def _is_this(self, saying: Saying, event: Mapping[str, Any]) -> bool:
        """Whether an event is what was said. Of a copy, such as one that is forwarded, it is not."""
        if (event.get("sender"), event.get("room_id")) != (saying.user_id, saying.matrix_room_id):
            return False
        if saying.event_id not in (None, event.get("event_id")):
            return False
        content = event.get("content")
        content = content if isinstance(content, dict) else {}
        if saying.redacts is not None:
            return saying.redacts in (event.get("redacts"), content.get("redacts"))
        return bool(content.get(MARK) == _mark(saying))

    def is_own_reading(self, matrix_room_id: str, user_id: str, event_id: str) -> bool:
        """Whether a receipt that the homeserver pushes is one that we sent for its user."""
        return self._sayings.has_read(matrix_room_id, user_id, event_id)

    def is_same_person(self, user_id: str, ghost: str) -> bool:
        """Whether a user of the homeserver and a ghost are linked."""
        double = self._doubles.of_user(user_id)
        return double is not None and double.linked and self._names.ghost(double.uri) == ghost


def _mark(saying: Saying) -> str:
    return f"{saying.log_event_id}/{saying.number}"


def _needs_keys(act: Act) -> bool:
    return isinstance(act, SendEvent) and act.type not in _NEVER_ENCRYPTED


def _changed(act: Act) -> str | None:
    """The Matrix event that an act changes: edits, or redacts."""
    if isinstance(act, RedactEvent):
        return act.event_id
    relation = act.content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        return str(relation.get("event_id"))
    return None


async def _as_ghost(ghost: HomeserverApi, matrix_room_id: str, act: Act, txn_id: str, ts: int | None) -> str:
    if isinstance(act, RedactEvent):
        return await ghost.redact(matrix_room_id, act.event_id, txn_id=txn_id, ts=ts)
    return await ghost.send(matrix_room_id, act.type, act.content, txn_id=txn_id, ts=ts)


def _time(event: Mapping[str, Any]) -> int:
    value = event.get("origin_server_ts")
    return value if isinstance(value, int) else 0
