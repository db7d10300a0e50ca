"""What encrypted rooms need of the homeserver beyond the Application Service API: that it pushes to-device
messages (MSC2409, MSC4203), changes of device lists and counts of keys (MSC3202).

No endpoint says so. That counts come is seen in transactions; that to-device messages come, by sending one
to ourselves. What was found is kept: a restart need not find it again, and a check beside a running bridge
reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from bridges.matrix.database import Database

PROBE = "dev.linearized.probe"
# A homeserver that passes on to-device messages does so within a second; a busy one within this.
PROBE_DEADLINE = 20.0
# One that passed them on before, and does not now, sees us down, or is busy: Synapse waits up to nine minutes
# before it tries again. To close rooms meanwhile would lose what is said in them.
KNOWN_DEADLINE = 900.0
# Those sent while the homeserver still sees us down are lost, so one is sent again after this, then after
# twice as long each time, up to half a minute.
PROBE_PAUSE, MAX_PROBE_PAUSE = 2.0, 30.0
_COUNTS = ("device_one_time_keys_count", "org.matrix.msc3202.device_one_time_keys_count")
_TO_DEVICE = ("to_device", "de.sorunome.msc2409.to_device")


class Extensions:
    """What the homeserver was seen to do. ``probe`` is a text nobody else knows."""

    def __init__(self, database: Database, *, probe: str) -> None:
        self._database = database
        self.content = {"probe": probe}
        self._answered = trio.Event()
        self.verified = False

    def saw(self, transaction: Mapping[str, Any]) -> None:
        """Look at what a transaction brings."""
        if self._answered.is_set():
            return
        for name in _TO_DEVICE:
            messages = transaction.get(name)
            for message in messages if isinstance(messages, list) else []:
                if isinstance(message, dict) and message.get("content") == self.content:
                    self._set("to_device", "yes")
                    # With a homeserver that counts, every transaction has the count of the bot's keys.
                    if any(transaction.get(name) for name in _COUNTS):
                        self._set("counts", "yes")
                    else:
                        self._forget("counts")
                    self._answered.set()

    async def verify(self, send: Callable[[], Awaitable[None]], *, patient: bool = False) -> None:
        """Find out anew, with ``send`` to send ``content`` to ourselves; what was known holds meanwhile, and
        that it did pass them on for long, if ``patient``.

        Raises:
            As ``send``.
        """
        pause = PROBE_PAUSE
        known = patient and self._get("to_device") is not None
        with trio.move_on_after(KNOWN_DEADLINE if known else PROBE_DEADLINE):
            while not self._answered.is_set():
                await send()
                with trio.move_on_after(pause):
                    await self._answered.wait()
                pause = min(2 * pause, MAX_PROBE_PAUSE)
        if not self._answered.is_set():
            self._forget("to_device")
        self.verified = True

    def taken(self) -> None:
        """The homeserver takes our keys."""
        self._forget("refused")

    def refused(self, errcode: str) -> None:
        """The homeserver does not take our keys."""
        self._set("refused", errcode)

    def missing(self) -> str | None:
        """What the homeserver lacks; ``None`` if nothing."""
        refused = self._get("refused")
        if refused is not None:
            return f"the homeserver does not take my keys ({refused})"
        if self._get("to_device") is None:
            return "the homeserver does not pass on the messages by which keys are exchanged (MSC2409)"
        if self._get("counts") is None:
            return "the homeserver does not say how many of my keys are left (MSC3202)"
        return None

    def inbox_position(self, user_id: str) -> str | None:
        """From where on the inbox of a user of ours is still to be read."""
        return self._get(f"inbox {user_id}")

    def set_inbox_position(self, user_id: str, position: str) -> None:
        """What stands before this in the inbox is here."""
        self._set(f"inbox {user_id}", position)

    def forget_inboxes(self) -> None:
        """All inboxes are to be read from their beginning."""
        self._database.run("DELETE FROM crypto_facts WHERE name LIKE 'inbox %'")

    def _get(self, name: str) -> str | None:
        row = self._database.first("SELECT value FROM crypto_facts WHERE name = ?", name)
        return None if row is None else str(row["value"])

    def _set(self, name: str, value: str) -> None:
        self._database.run("INSERT OR REPLACE INTO crypto_facts VALUES (?, ?)", name, value)

    def _forget(self, name: str) -> None:
        self._database.run("DELETE FROM crypto_facts WHERE name = ?", name)
