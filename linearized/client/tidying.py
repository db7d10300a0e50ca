"""When this device commits the removal of who left, so that they go promptly and not by everybody at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from linearized.client.device import MlsDevice

# Each member waits for a time of its own, up to this: of twenty, the first is there after half a second on
# average, and has mostly spared the others their try.
TIDY_SPREAD_MS = 10_000


class Tidying:
    """Rooms with removals to commit, each with the time this device will do it.

    Args:
        clock: milliseconds since the Unix epoch.
        draw: a random number, at least 0 and below 1.
    """

    def __init__(self, device: MlsDevice, *, clock: Callable[[], int], draw: Callable[[], float]) -> None:
        self._device = device
        self._clock = clock
        self._draw = draw
        self._due: dict[str, int] = {}

    def look(self, room_ids: Iterable[str]) -> None:
        """Look into rooms where something happened."""
        for room_id in room_ids:
            if not self._device.must_tidy(room_id):
                self._due.pop(room_id, None)
            elif room_id not in self._due:
                self.put_off(room_id)

    def put_off(self, room_id: str) -> None:
        """Try a room at a later time."""
        self._due[room_id] = self._clock() + int(self._draw() * TIDY_SPREAD_MS)

    def due(self) -> list[str]:
        """The rooms whose time has come."""
        now = self._clock()
        return [room_id for room_id, at in self._due.items() if at <= now]

    def wait_ms(self, longest: int) -> int:
        """How long until the next room's time comes, at most ``longest``."""
        return max(0, min([longest, *(at - self._clock() for at in self._due.values())]))
