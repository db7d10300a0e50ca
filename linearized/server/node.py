"""What a running server is made of, in one value that the faces are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import openmls

from linearized.config import Config
from linearized.exceptions import CertificateError
from linearized.mimi.ohttp import GatewayKey
from linearized.protocol.signing import ServerIdentity
from linearized.room.certificates import verify_credential
from linearized.server.buckets import Buckets, RateLimits
from linearized.server.groups import Groups
from linearized.server.mls import OpenMls
from linearized.server.notifier import Notifier
from linearized.server.segments import Segments
from linearized.server.takeover_consents import TakeoverConsents
from linearized.server.tree import Trees
from linearized.store.base import Store

if TYPE_CHECKING:
    from linearized.server.auditing import Auditor
    from linearized.server.copies import Copies
    from linearized.server.fanout_tokens import FanoutTokens
    from linearized.server.followers import Followers
    from linearized.server.franking import Franking
    from linearized.server.join_codes import JoinCodes
    from linearized.server.keys import KeyRing
    from linearized.server.metadata_policies import HubPolicies
    from linearized.server.moves import Moves
    from linearized.server.outbound import FederationClient
    from linearized.server.parents import Dependants
    from linearized.server.providers.client import ProviderClient
    from linearized.server.pulling import Pulling
    from linearized.server.rooms import Rooms
    from linearized.server.takeovers import Takeovers


# What may come about one user's consent, over all providers and from each: a few people a day ask, and each
# entry makes the user's devices ring.
CONSENTS_PER_SECOND: Final = 1 / 60
CONSENT_BURST: Final = 20
# Queries for people, of each provider and of each of our users: typing a name slowly, not trying all of them.
QUERIES_PER_SECOND: Final = 1
QUERY_BURST: Final = 30
# Oblivious requests of each of our users. Each may bring a whole file through two servers; a room opened anew
# shows a few dozen pictures.
RELAYED_PER_SECOND: Final = 2
RELAYED_BURST: Final = 50


@dataclass(slots=True)
class Node:
    """One server. ``clock`` gives milliseconds since the Unix epoch, ``ids(n)`` a random URL-safe token of
    n bytes.
    """

    config: Config
    identity: ServerIdentity
    mls_signer: openmls.SignatureKeyPair  # signs GroupInfo responses and acts as external sender
    store: Store
    notifier: Notifier
    clock: Callable[[], int]
    ids: Callable[[int], str]
    keys: KeyRing
    federation: FederationClient
    providers: ProviderClient
    followers: Followers
    franking: Franking
    gateway_keys: tuple[GatewayKey, ...] = field(repr=False)  # the present one first
    trees: Trees = field(init=False)
    groups: Groups = field(init=False)
    limits: RateLimits = field(init=False)
    consent_limit: Buckets = field(init=False)
    query_limit: Buckets = field(init=False)
    relay_limit: Buckets = field(init=False)
    segments: Segments = field(init=False)
    # These need the node itself, so they are set right after.
    rooms: Rooms = field(init=False)
    audits: Auditor = field(init=False)
    moves: Moves = field(init=False)
    copies: Copies = field(init=False)
    takeovers: Takeovers = field(init=False)
    takeover_consents: TakeoverConsents = field(init=False)
    pulling: Pulling = field(init=False)
    fanout_tokens: FanoutTokens = field(init=False)
    hub_policies: HubPolicies = field(init=False)
    join_codes: JoinCodes = field(init=False)
    dependants: Dependants = field(init=False)

    def __post_init__(self) -> None:
        self.trees = Trees(self.store, self.identity)
        self.groups = Groups(self.store, OpenMls(self.clock))
        self.takeover_consents = TakeoverConsents(self.store)
        self.limits = RateLimits.of(self.config.limits, self.clock)
        self.consent_limit = Buckets(self.clock, per_second=CONSENTS_PER_SECOND, burst=CONSENT_BURST)
        self.query_limit = Buckets(self.clock, per_second=QUERIES_PER_SECOND, burst=QUERY_BURST)
        self.relay_limit = Buckets(self.clock, per_second=RELAYED_PER_SECOND, burst=RELAYED_BURST)
        self.segments = Segments(self.store, self.config.data_dir / "segments")

    def require_held(self, credential: bytes) -> None:
        """Check the certificates in a TLS-encoded Credential, now; see ``verify_credential``.

        Raises:
            CertificateError: they do not hold.
        """
        verify_credential(credential, self.config.authorities_of, now=self.clock())

    def holds(self, credential: bytes) -> bool:
        """Whether ``require_held`` has nothing to say, where who asks is not told why."""
        try:
            self.require_held(credential)
        except CertificateError:
            return False
        return True

    @property
    def served_domains(self) -> frozenset[str]:
        """Every domain whose users this server answers for: its own and its bridges'."""
        return frozenset({self.identity.name}) | self.bridged_domains

    @property
    def bridged_domains(self) -> frozenset[str]:
        """The domains of the bridges in the settings."""
        return frozenset(domain for bridge in self.config.bridges for domain in bridge.domains)
