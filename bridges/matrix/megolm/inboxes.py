"""The inboxes of our ghosts' devices: what the homeserver did not push waits there.

The bot has no inbox that can be read (Synapse answers its ``/sync`` with 500), which is why a ghost listens
in every encrypted room that has one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import structlog
import trio

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import Accounts
from bridges.matrix.megolm.extensions import Extensions
from bridges.matrix.megolm.mailbox import Mailbox, MailboxFull
from bridges.matrix.megolm.publishing import Publishing
from linearized.client import ApiError

# Inboxes of a room are read again at most this often while a key is missing.
INBOX_PAUSE = 5.0
# Ghosts of a room whose inboxes are read for a key that is missing: each was given the same.
MAX_LISTENERS = 3
# Pages of an inbox read at once; a page has a hundred messages.
MAX_INBOX_PAGES = 100

log = structlog.get_logger(__name__)


class Inboxes:
    """Reads them into the mailbox. ``members`` gives the joined users of a room."""

    def __init__(
        self,
        database: Database,
        *,
        accounts: Accounts,
        publishing: Publishing,
        extensions: Extensions,
        mailbox: Mailbox,
        members: Callable[[str], Awaitable[Iterable[str]]],
        is_ours: Callable[[str], bool],
        bot: str,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._publishing = publishing
        self._extensions = extensions
        self._mailbox = mailbox
        self._members = members
        self._is_ours = is_ours
        self._bot = bot
        # When the inboxes of a room's ghosts were read last for a key that is missing.
        self._looked: dict[str, float] = {}

    async def read(self, room_id: str | None = None) -> None:
        """Fetch what the homeserver did not push to our devices, or to those of a room: what it had queued
        while it saw us down, it forgets.

        Raises:
            ServerUnreachable: the homeserver is away.
        """
        users = [user for user in self._accounts.all_users() if user != self._bot]
        if room_id is not None:
            members = await self._members(room_id)
            users = [user for user in users if user in members][:MAX_LISTENERS]
        for user in users:
            try:
                await self._read_inbox(user)
            except ApiError as error:
                log.warning("an inbox could not be read", user_id=user, error=str(error))
            except MailboxFull:  # what is left stays in the inboxes
                return

    async def _read_inbox(self, user_id: str) -> None:
        own = self._accounts.find(user_id)
        if own is None or not own.published:
            return
        since = self._extensions.inbox_position(user_id)
        ours = {"to_user_id": own.user_id, "to_device_id": own.device_id}
        for _ in range(MAX_INBOX_PAGES):
            messages, since = await self._publishing.api(own).inbox(since)
            with self._database.together():
                self._mailbox.put({**message, **ours} for message in messages)
                self._extensions.set_inbox_position(user_id, since)
            if not messages:
                return

    async def listen(self, room_id: str) -> None:
        """Have a ghost with a device in the room, if there is any ghost."""
        ghosts = [user for user in await self._members(room_id) if user != self._bot and self._is_ours(user)]
        if ghosts and not any(self._accounts.find(user) for user in ghosts):
            await self._publishing.device(ghosts[0])

    async def look_for_key(self, room_id: str) -> None:
        """Read the inboxes of a room's ghosts, unless that was just done."""
        now, last = trio.current_time(), self._looked.get(room_id)
        if last is None or now - last >= INBOX_PAUSE:
            self._looked[room_id] = now
            await self.read(room_id)

    def forget(self, room_id: str) -> None:
        """The room is of no interest any more."""
        self._looked.pop(room_id, None)
