"""We as hub send fan-out requests, to followers that gave us tokens (draft-robert-mimi-delivery-service).

It is another way for the same messages: which is next, how often it is tried and when it counts as delivered
is the worker's business, as with notifications.
"""

from __future__ import annotations

from typing import Final

import structlog

from linearized.exceptions import MimiDecodeError
from linearized.mimi.delivery_service import ClientID, DSErrorCode
from linearized.mimi.fanout_requests import DSFanoutRequest, DSFanoutResponse, FanoutAuthToken
from linearized.mimi.messages import FanoutMessage
from linearized.protocol.identifiers import room_uri
from linearized.server.providers.client import (
    FANOUT_REQUEST,
    OK,
    NoEndpointError,
    ProviderClient,
    ProviderError,
)
from linearized.store.base import Store
from linearized.store.pulling import FanoutTokenRow

log = structlog.get_logger("linearized.fanout_requests")

# What a follower says when it does not take our tokens, or no longer.
TOKENS_REFUSED: Final = frozenset({DSErrorCode.NOT_ALLOWED, DSErrorCode.UNKNOWN_CLIENT})


class FanoutRequests:
    """The requests to one provider."""

    def __init__(self, provider: str, *, store: Store, providers: ProviderClient) -> None:
        self._provider = provider
        self._store = store
        self._providers = providers

    def tokens(self, room_id: str) -> list[FanoutTokenRow]:
        """The tokens the provider gave us for its clients in a room; none if it is to be notified."""
        return self._store.fanout_tokens(room_id, self._provider)

    async def send(self, room_id: str, fanned_out: bytes, tokens: list[FanoutTokenRow]) -> bool:
        """Send one FanoutMessage as a request.

        Returns:
            Whether it was taken. If not, our tokens were refused and are forgotten: the room is notified
            until the provider gives us others, so that a token that has ended costs nobody a message.

        Raises:
            ProviderError: there was no answer, or another refusal.
        """
        request = DSFanoutRequest.of(
            FanoutMessage.decode(fanned_out),
            recipients=tuple(ClientID(client_id=row.client) for row in tokens),
            tokens=tuple(FanoutAuthToken(token=row.token) for row in tokens),
        )
        try:
            answer = await self._providers.exchange(
                self._provider, FANOUT_REQUEST, room_uri(room_id), request.encode()
            )
            error = DSFanoutResponse.decode(answer).response_body.error
        except NoEndpointError:
            await self._forget(room_id, "no_endpoint")
            return False
        except MimiDecodeError as unreadable:
            raise ProviderError(f"{self._provider} gave no DSFanoutResponse", status=OK) from unreadable
        if error is None:
            return True
        if error.code in TOKENS_REFUSED:
            await self._forget(room_id, repr(error.code))
            return False
        raise ProviderError(f"{self._provider} refused a message: {error.code!r}", status=OK)

    async def _forget(self, room_id: str, reason: str) -> None:
        log.warning("fanout_tokens_refused", provider=self._provider, room_id=room_id, reason=reason)
        await self._store.put_fanout_tokens(room_id, self._provider, ())
