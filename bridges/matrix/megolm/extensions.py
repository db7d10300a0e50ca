"""What encrypted rooms need of the homeserver beyond the Application Service API: that it pushes to-device
messages (MSC2409, MSC4203), changes of device lists and counts of keys (MSC3202).

No endpoint says so. That counts come is seen in transactions; that to-device messages come, by sending one to
ourselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridges.matrix.database import Database

_COUNTS = ("device_one_time_keys_count", "org.matrix.msc3202.device_one_time_keys_count")
_TO_DEVICE = ("to_device", "de.sorunome.msc2409.to_device")


class Extensions:
    """What the homeserver was seen to do, in the database: a check beside a running bridge reads it, too."""

    PROBE = "dev.linearized.probe"

    def __init__(self, database: Database) -> None:
        self._database = database

    def probe(self, ids: Callable[[int], str]) -> str:
        """Forget what was seen and give the text of a message to send to ourselves."""
        probe = ids(16)
        self._set("probe", probe)
        for name in ("to_device", "counts", "refused"):
            self._database.run("DELETE FROM crypto_facts WHERE name = ?", name)
        return probe

    def saw(self, transaction: Mapping[str, Any]) -> None:
        """Look at what a transaction brings."""
        if self.sees_to_device and self.sees_counts:
            return
        if any(transaction.get(name) for name in _COUNTS):
            self._set("counts", "yes")
        wanted = self._get("probe")
        for name in _TO_DEVICE:
            messages = transaction.get(name)
            for message in messages if isinstance(messages, list) else []:
                content = message.get("content") if isinstance(message, dict) else None
                if isinstance(content, dict) and wanted is not None and content.get("probe") == wanted:
                    self._set("to_device", "yes")

    @property
    def sees_to_device(self) -> bool:
        """Whether to-device messages come."""
        return self._get("to_device") is not None

    @property
    def sees_counts(self) -> bool:
        """Whether counts of keys come, and with them changes of device lists."""
        return self._get("counts") is not None

    def refused(self, errcode: str) -> None:
        """The homeserver does not take our keys."""
        self._set("refused", errcode)

    def missing(self) -> str | None:
        """What the homeserver lacks; ``None`` if nothing."""
        refused = self._get("refused")
        if refused is not None:
            return f"the homeserver does not take my keys ({refused})"
        if not self.sees_to_device:
            return "the homeserver does not pass on the messages by which keys are exchanged (MSC2409)"
        if not self.sees_counts:
            return "the homeserver does not say how many of my keys are left (MSC3202)"
        return None

    @property
    def inbox_position(self) -> str | None:
        """From where on the bot's inbox is still to be read."""
        return self._get("inbox")

    @inbox_position.setter
    def inbox_position(self, value: str) -> None:
        self._set("inbox", value)

    def _get(self, name: str) -> str | None:
        row = self._database.first("SELECT value FROM crypto_facts WHERE name = ?", name)
        return None if row is None else str(row["value"])

    def _set(self, name: str, value: str) -> None:
        self._database.run("INSERT OR REPLACE INTO crypto_facts VALUES (?, ?)", name, value)
