"""What an application does with archives: keep, ask, approve, read (decision 34).

old.archive.enable()                        # the user's wish, once
code = await new.archive.ask()              # shown on the new device
await old.archive.approve(item, code)       # with the ArchiveRequested that comes, and what the user typed
async for found in new.archive.read(room):  # after the ArchiveShared
    ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from linearized.client.api import ProviderApi
from linearized.client.archive import sharing
from linearized.client.archive.keeping import permission
from linearized.client.archive.reading import Archived, ArchiveReader
from linearized.client.archive.state import ArchiveState, KnownArchive, WaitingRecord
from linearized.client.device import MlsDevice
from linearized.client.errors import ApiError, ArchiveRefused
from linearized.client.identity import client_named
from linearized.client.items import ArchiveRequested, ArchiveStopped
from linearized.client.transport import JsonObject

# Records in one request (the server's limits), and bytes of what they hold.
RECORDS_AT_ONCE: Final = 100
BYTES_AT_ONCE: Final = 2 * 1024 * 1024
_LATER: Final = (401, 429)  # once this device is logged in again, or some time has passed
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What an approval gave: the rooms whose archives the new device can read now, and why not those of
    others.
    """

    given: tuple[str, ...]
    refused: Mapping[str, str]


class Archive:
    """The archives of one session's device, as ``session.archive``.

    Args:
        random: gives as many random bytes as it is asked for.
    """

    def __init__(self, api: ProviderApi, device: MlsDevice, *, random: Callable[[int], bytes]) -> None:
        self._api = api
        self._device = device
        self._random = random
        self._lock = trio.Lock()

    @property
    def _state(self) -> ArchiveState:
        return self._device.state.archive

    # --- the user's wish ---

    @property
    def enabled(self) -> bool:
        """Whether messages are kept."""
        return self._state.enabled

    def enable(self) -> None:
        """Keep, from now on, the messages that this device reads, in every room whose policy allows it."""
        self._state.enabled, self._state.full = True, False
        self._device.save()

    async def disable(self) -> None:
        """Keep no more, and have the provider forget every archive of this account, also those of other
        devices.

        Raises:
            ApiError, ServerUnreachable: it is not known whether it forgot; nothing more is kept.
        """
        self._device.state.archive = ArchiveState()
        self._device.save()
        async with self._lock:
            await self._api.remove_archive()

    async def forget(self, room_id: str) -> None:
        """Have the provider forget the archives of one room that this device knows of; later messages are
        kept in a new one.
        """
        self._state.drop(room_id)
        self._device.save()
        await self.flush()

    # --- the new device ---

    async def ask(self) -> str:
        """Ask this user's other devices for the keys of their archives. Gives the code that the user is to
        type into one of them; another call makes the code before worthless.

        Raises:
            ApiError, ServerUnreachable: nobody was asked.
        """
        secret = self._random(sharing.SECRET_BYTES)
        self._state.request, content = sharing.new_request(self._device, secret=secret)
        self._device.save()
        await self._send("*", sharing.REQUEST, content)
        return sharing.code_of(secret)

    def read(self, room_id: str) -> AsyncGenerator[Archived, None]:
        """What the archives of a room hold that this device has the keys of, in the order of the log:
        messages, and gaps with their reasons. Leave it through ``contextlib.aclosing``.

        Raises:
            ArchiveRefused: it has no keys; see ``ask``.
            ApiError, ServerUnreachable, MalformedAnswer, UntrustedAnswer: as ``ArchiveReader.read``.
        """
        archives = self._state.keys(room_id)
        if not archives:
            raise ArchiveRefused("no device of this user shared an archive of this room")
        reader = ArchiveReader(self._api, user_id=self._device.owner.user_id, room_id=room_id)
        return reader.read(archives)

    # --- the old device ---

    async def approve(self, asked: ArchiveRequested, code: str) -> Approval:
        """Give the keys of archives to the device that asked, in rooms that it is in the group of and whose
        policy allows it.

        Args:
            code: what the new device shows and the user typed; dashes, spaces and case do not matter.

        Raises:
            ArchiveRefused: the code is another's; the device is another user's, or in none of the rooms.
            ApiError, ServerUnreachable: the keys may not have reached it; approve again.
        """
        request, secret = sharing.check_request(self._device, asked, code)
        await self.flush()
        given: list[tuple[str, KnownArchive]] = []
        refused: dict[str, str] = {}
        for room_id in self._state.rooms():
            if not sharing.may_have(self._device, room_id, request):
                refused[room_id] = "the device is not in the group"
            elif not permission(self._device, room_id).allowed:
                refused[room_id] = "the room's policy forbids it"
            else:
                given += [(room_id, archive) for archive in self._state.keys(room_id)]
        if not given:
            raise ArchiveRefused("there is no room whose archive the device may have")
        for room_id, _ in given:
            own = self._state.own.get(room_id)
            if own is not None and request.client_uri not in own.given:
                own.given.append(request.client_uri)
        # What is said to have been given must be known before it is: it decides when there is a new key.
        self._device.save()
        _, device_id = client_named(request.client_uri)
        for content in sharing.answers(self._device, request, secret, given):
            await self._send(device_id, sharing.KEYS, content)
        return Approval(given=tuple(dict.fromkeys(room_id for room_id, _ in given)), refused=refused)

    async def _send(self, device_id: str, kind: str, content: JsonObject) -> None:
        messages = {self._device.owner.user_id: {device_id: content}}
        await self._api.send_to_device(kind, messages, txn_id=self._api.transaction_id())

    # --- what waits ---

    async def flush(self) -> None:
        """Bring the provider what waits.

        Raises:
            ServerUnreachable, ApiError: not now; it waits on.
        """
        async with self._lock:
            while self._state.removed:
                name = self._state.removed[0]
                await self._api.remove_archive(name)
                self._state.removed = [one for one in self._state.removed if one != name]
                self._device.save()
            while self._state.waiting:
                await self._flush_records()
            while self._state.releases:
                name = self._state.releases[0].archive
                batch = [one for one in self._state.releases if one.archive == name][:RECORDS_AT_ONCE]
                await self._api.release_records(name, batch)
                self._state.releases = [one for one in self._state.releases if one not in batch]
                self._device.save()

    async def _flush_records(self) -> None:
        """Bring the provider some neighbouring records of one archive."""
        first = self._state.waiting[0]
        batch = _batch([one for one in self._state.waiting if one.archive == first.archive])
        try:
            await self._api.keep_records(first.room_id, first.archive, batch)
        except ApiError as error:
            if error.status in _LATER or error.status >= _SERVER_ERROR:
                raise
            if error.errcode == "M_LIMIT_EXCEEDED":
                self._state.stop()
                self._device.deliver(
                    [ArchiveStopped(room_id=first.room_id, reason="the provider takes no more")]
                )
            else:
                # We are out of the room, or the log has become another, or another device had the archive
                # forgotten: the next message begins a new one.
                self._state.abandon(first.room_id, first.archive, forgotten=error.status == _CONFLICT)
        else:
            self._state.confirm(first.room_id, first.archive, batch[-1].number)
        self._device.save()


def _batch(records: Sequence[WaitingRecord]) -> list[WaitingRecord]:
    """As many of the first as one request takes."""
    size, batch = 0, list(records[:1])
    for record in records[1:RECORDS_AT_ONCE]:
        size += len(record.sealed)
        if size + len(records[0].sealed) > BYTES_AT_ONCE:
            break
        batch.append(record)
    return batch
