"""What a provider is told over MIMI: a notification for each room, or a fan-out request for each message."""

from __future__ import annotations

from typing import Final, NamedTuple

from linearized.protocol.identifiers import room_domain, room_uri
from linearized.protocol.state import HUB
from linearized.server import hub_chain
from linearized.server.fanout import FrankOf, read_notification
from linearized.server.fanout_requests import FanoutRequests
from linearized.server.progress import Progress
from linearized.server.providers.client import Answer, ProviderClient, ProviderError
from linearized.server.welcomes import provider_address
from linearized.store.base import EntryRow, FollowerRow, Store

ACCEPTED: Final = frozenset({200, 201, 202})
FORBIDDEN: Final = 403  # also of who takes another for the room's hub


class Told(NamedTuple):
    """What became of a room's next range: whether that took a request, and whether there may be more."""

    requested: bool
    more: bool


class Notifying:
    """Tells one provider.

    Args:
        frank_of: gives the frank of an entry of ours.
        own_name: this server.
    """

    def __init__(
        self,
        provider: str,
        *,
        store: Store,
        progress: Progress,
        providers: ProviderClient,
        frank_of: FrankOf,
        own_name: str,
    ) -> None:
        self._provider = provider
        self._store = store
        self._progress = progress
        self._providers = providers
        self._requests = FanoutRequests(provider, store=store, providers=providers)
        self._frank_of = frank_of
        self._own_name = own_name

    async def tell(self, follower: FollowerRow) -> Told:
        """Send a room's next range, and move the cursor.

        Raises:
            ProviderError: it was not taken.
        """
        room_id = follower.room_id
        tokens = self._requests.tokens(room_id)
        notification = read_notification(
            self._store, follower, frank_of=self._frank_of, max_bytes=0 if tokens else None, moves=True
        )
        if notification is None:
            return Told(requested=False, more=False)
        if notification.transfer is not None:
            await self._show_transfer(notification.transfer)
        if notification.body and tokens:
            if not await self._requests.send(room_id, notification.body, tokens):
                return Told(requested=True, more=True)  # by a notification, then
        elif notification.body:
            await self.post(room_id, notification.body)
        self._progress.move(follower, notification.cursor)
        if notification.welcomes:
            address = provider_address(self._provider)
            await self._store.delete_to_device(address, room_id, up_to=notification.welcomes)
        return Told(requested=bool(notification.body or notification.transfer), more=True)

    async def post(self, room_id: str, body: bytes) -> None:
        """Send a notification.

        Raises:
            ProviderError: it was not taken.
        """
        answer = await self._notified(room_id, body)
        if answer.status == FORBIDDEN and room_domain(room_id) != self._own_name:
            # Whom a user of its was just added for has not seen the room move here.
            await self._show_present(room_id)
            answer = await self._notified(room_id, body)
        if answer.status not in ACCEPTED:
            raise ProviderError(
                f"{self._provider} answered {answer.status}",
                status=answer.status,
                retry_after_s=answer.retry_after_s,
            )

    async def _notified(self, room_id: str, body: bytes) -> Answer:
        return await self._providers.post(self._provider, "notify", room_uri(room_id), body, in_turn=True)

    async def _show_present(self, room_id: str) -> None:
        row = self._store.room(room_id)
        transfer = None if row is None else self._store.state_entry(room_id, *HUB, seq=row.head_seq)
        if transfer is not None:
            await self._show_transfer(transfer)

    async def _show_transfer(self, transfer: EntryRow) -> None:
        """Show the provider that the room has another hub: the last that an old hub sends it, and the first
        of a new one. It takes it from the hub it knows, or once its operator has agreed; until then the new
        hub comes again.
        """
        events = hub_chain.hub_events_at(self._store, transfer)
        await hub_chain.show(self._providers, self._provider, transfer.room_id, events)
