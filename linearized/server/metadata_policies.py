"""What we say we keep of metadata, and what we ask of the hubs whose rooms we take part in.

What is said of ourselves follows from what the server does: each value is the constant or setting that makes
it so. How long a log lives is up to who runs the server, so they say it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import openmls

from linearized.config import Config
from linearized.exceptions import MimiDecodeError
from linearized.mimi.metadata_policy import (
    SIGNATURE_LABEL,
    MetadataPolicy,
    MetadataPolicyError,
    MetadataPolicyTBS,
    SignedMetadataPolicy,
    require_policy,
)
from linearized.server.providers.client import ProviderClient, ProviderError
from linearized.store.base import REPLY_DAYS
from linearized.store.contacts import KEEP_CLOSED_MS

# Nothing writes an address down: the log has none, and rate limits forget them with the process.
ADDRESSES_SECONDS: Final = 0
# A day of grace: replies go by whole days.
REPLIES_SECONDS: Final = (REPLY_DAYS + 1) * 24 * 3600
# A hub that changes its policy is held to the new one within this time.
POLICY_TTL_MS: Final = 3_600_000
MAX_POLICIES: Final = 1000  # hubs remembered; the least recently asked is forgotten first


@dataclass(frozen=True, slots=True)
class _Known:
    policy: MetadataPolicy
    expires_ms: int


def policy_of(config: Config) -> MetadataPolicy:
    """What a server with these settings keeps of the rooms it is the hub of."""
    return MetadataPolicy(
        addresses_seconds=ADDRESSES_SECONDS,
        log_seconds=config.metadata.log_seconds,
        history_seconds=None,  # a room's log is kept as long as the room
        replies_seconds=REPLIES_SECONDS,
        reports_seconds=KEEP_CLOSED_MS // 1000,
        sees_participants=True,
        sees_senders=True,
    )


class HubPolicies:
    """Our policy, and those of other hubs.

    Args:
        signer: the key that the groups of our rooms hold for us.
        clock: milliseconds since the Unix epoch.
    """

    def __init__(
        self,
        providers: ProviderClient,
        config: Config,
        *,
        signer: openmls.SignatureKeyPair,
        clock: Callable[[], int],
    ) -> None:
        self._providers = providers
        self._config = config
        self._signer = signer
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def own(self) -> SignedMetadataPolicy:
        """Ours, signed."""
        provider, policy = self._config.server_name, policy_of(self._config).encode()
        content = MetadataPolicyTBS(provider=provider, policy=policy).encode()
        signature = self._signer.sign_with_label(label=SIGNATURE_LABEL, content=content)
        return SignedMetadataPolicy(provider=provider, policy=policy, signature=signature)

    async def signed(self, hub: str) -> bytes:
        """A hub's SignedMetadataPolicy, for a client to check; our own if we are that hub.

        Raises:
            ProviderError: it gave none.
        """
        if hub == self._config.server_name:
            return self.own().encode()
        return await self._providers.metadata_policy(hub)

    async def require(self, hub: str) -> None:
        """Hold another hub to the settings, before a user of ours joins a room of it. Asks it only if they
        ask for anything.

        Raises:
            MetadataPolicyError: it falls short, or does not say what it keeps.
        """
        required = self._config.metadata.required
        if not required.of_hub or hub == self._config.server_name:
            return
        known = self._known.get(hub)
        if known is None or known.expires_ms <= self._clock():
            known = _Known(await self._fetch(hub), self._clock() + POLICY_TTL_MS)
            self._known[hub] = known
        self._known.move_to_end(hub)
        if len(self._known) > MAX_POLICIES:
            self._known.popitem(last=False)
        require_policy(hub, known.policy, required)

    async def _fetch(self, hub: str) -> MetadataPolicy:
        try:
            # The connection proves who speaks; the signature is for those who have no connection to the hub.
            signed = SignedMetadataPolicy.decode(await self._providers.metadata_policy(hub))
            policy = MetadataPolicy.decode(signed.policy)
        except (ProviderError, MimiDecodeError) as error:
            raise MetadataPolicyError(hub, ("it does not say what it keeps",)) from error
        if signed.provider != hub:
            raise MetadataPolicyError(hub, ("what it says is of another hub",))
        return policy
