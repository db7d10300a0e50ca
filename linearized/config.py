"""Settings: what there is, what each means, and its default.

``config_file`` reads them from ``linearized.toml``, ``config_template`` writes a first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.x509 import Certificate

from linearized.mimi.metadata_policy import RequiredPolicy
from linearized.settings import Address, IPAddress, IPNetwork

__all__ = [
    "Address",
    "BridgeConfig",
    "Config",
    "ConsentConfig",
    "DiscoveryConfig",
    "IPAddress",
    "IPNetwork",
    "KeysConfig",
    "LimitsConfig",
    "ListenConfig",
    "MetadataConfig",
    "ProviderConfig",
    "StoreConfig",
    "TlsConfig",
]

# --- defaults, each with its reason ---
# file descriptors: the usual limit of 4096, halved for the database, media and outgoing ones
MAX_CONNECTIONS = 2000
GRACE_SECONDS = 10  # init systems kill after 30 to 90 seconds; a request in flight should need far less
REQUEST_SECONDS = 30  # what a peer may take to answer one of our requests before we call it down
MAX_MEDIA_BYTES = 50 * 1024 * 1024  # what homeservers commonly accept
MAX_BACKFILL = 100  # events per answer; at most 6.5 MB when every event is as large as it may be
MAX_NOTARY_SERVERS = 100  # servers one notary request may make us contact
# Requests a second; ten times as many may come at once. Each is far above what its kind needs in ordinary use
# and far below what it takes to keep a small machine busy.
ADDRESS_RATE = 20  # one address, before anybody there is logged in
ACCOUNT_RATE = 50  # all devices of one user: a client that starts asks for a few dozen things
PROVIDER_RATE = 50  # a server catching up on a few hundred rooms at once stays below the burst
GROUP_RATE = 100  # what one provider sends to one room: a hundred people who write every second
# Whoever gets hold of a key of the oblivious gateway can read the requests of its time that they recorded.
GATEWAY_DAYS = 30
MAX_GATEWAY_DAYS = 1000  # more is never; less than two would end a key before clients heard of the next
# FULL: an acknowledged entry survives power loss; NORMAL: only a process crash
SYNCHRONOUS = ("FULL", "NORMAL")

EVERYBODY = "*"  # in consent.required_from
# How MIMI messages get from a hub to a follower: notify, our fetching them, or fan-out requests of
# draft-robert-mimi-delivery-service. A hub takes the last on request alone: it needs the follower's tokens.
PUSH, PULL = WAYS = ("push", "pull")
FANOUT_REQUEST = "fanout-request"
DELIVERY_WAYS = (*WAYS, FANOUT_REQUEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """``[listen]``: ``tls`` serves every face, ``client`` only the client API, without TLS."""

    tls: Address
    client: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """``[tls]``: PEM files. ``certificate`` is the chain, leaf first, valid for ``server_name``.

    ``trusted_ca`` adds authorities to the system's when we connect to peers; client certificates are accepted
    only when it is set, and only from it.
    """

    certificate: Path
    key: Path
    trusted_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeConfig:
    """``[[bridges]]``: an application service that may act for every user of ``domains`` and as ``bot``."""

    id: str
    token_file: Path
    token: str = field(repr=False)
    bot: str
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """``[store]``: SQLite's ``synchronous`` pragma, ``FULL`` or ``NORMAL``."""

    synchronous: str = "FULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """``[discovery]`` without its overrides: ``allowed_networks`` may be connected to though they are not
    public, ``nameservers`` are asked instead of the system's.
    """

    allowed_networks: tuple[IPNetwork, ...] = ()
    nameservers: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """``[keys]``: ``notaries`` are asked for the keys of servers that do not answer; none by default. The
    oblivious gateway has a new key every ``gateway_days``; 0 leaves that to a command.
    """

    notaries: tuple[str, ...] = ()
    gateway_days: int = GATEWAY_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentConfig:
    """``[consent]``: the users of which other providers need a grant before they can add a user of ours who
    has not said otherwise; ``*`` stands for all. Nobody does by default.
    """

    required_from: tuple[str, ...] = ()

    def is_required_from(self, provider: str) -> bool:
        """Whether users of that provider need a grant."""
        return provider in self.required_from or EVERYBODY in self.required_from


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOnConfig:
    """``[sign_on]``: the homeservers whose users may log in here with an OpenID token; none by default."""

    homeservers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """``[providers."b.example"]``: how MIMI messages travel between that provider and us, ``push`` or
    ``pull``. ``delivery`` is for the rooms it is the hub of: with ``pull`` we fetch them, with
    ``fanout-request`` we have it send us fan-out requests. ``fan_out`` is for the rooms we are the hub of:
    with ``pull`` it fetches them, and is sent nothing. ``asset_hosts`` are where its users' files lie.
    """

    delivery: str = "push"
    fan_out: str = "push"
    asset_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig:
    """``[metadata]``: what a hub says of itself and cannot know (``log_seconds``: how long the operator keeps
    its log; None if they do not say), and in ``[metadata.required]`` what we ask of other hubs before we take
    part in their rooms.
    """

    log_seconds: int | None = None
    required: RequiredPolicy = field(default_factory=RequiredPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """``[limits]``: bounds an operator may want to move; the others are constants beside their code."""

    max_connections: int = MAX_CONNECTIONS
    grace_seconds: int = GRACE_SECONDS
    request_seconds: int = REQUEST_SECONDS
    max_media_bytes: int = MAX_MEDIA_BYTES
    max_backfill: int = MAX_BACKFILL
    max_notary_servers: int = MAX_NOTARY_SERVERS
    address_rate: int = ADDRESS_RATE
    account_rate: int = ACCOUNT_RATE
    provider_rate: int = PROVIDER_RATE
    group_rate: int = GROUP_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. ``discovery_overrides`` maps a server name to the address to use instead; ``operators``
    are the accounts (user IDs) that see every room's followers and group.
    """

    server_name: str
    data_dir: Path
    listen: ListenConfig
    tls: TlsConfig
    discovery_overrides: Mapping[str, Address] = field(default_factory=dict)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)
    bridges: tuple[BridgeConfig, ...] = ()
    operators: tuple[str, ...] = ()
    consent: ConsentConfig = field(default_factory=ConsentConfig)
    sign_on: SignOnConfig = field(default_factory=SignOnConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    providers: Mapping[str, ProviderConfig] = field(default_factory=dict)
    metadata: MetadataConfig = field(default_factory=MetadataConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    certificate_authorities: Mapping[str, tuple[Certificate, ...]] = field(default_factory=dict)

    def authorities_of(self, domain: str) -> Sequence[Certificate]:
        """Those that may certify the clients of a domain's users; none unless the settings name them."""
        return self.certificate_authorities.get(domain, ())

    @property
    def pulled_hubs(self) -> tuple[str, ...]:
        """The hubs whose rooms we fetch."""
        return tuple(name for name, settings in self.providers.items() if settings.delivery == PULL)

    @property
    def requesting_hubs(self) -> tuple[str, ...]:
        """The hubs that are to send us fan-out requests."""
        return tuple(name for name, settings in self.providers.items() if settings.delivery == FANOUT_REQUEST)

    @property
    def pull_followers(self) -> tuple[str, ...]:
        """The providers that fetch the rooms we are the hub of."""
        return tuple(name for name, settings in self.providers.items() if settings.fan_out == PULL)

    def bridge_for(self, domain: str) -> BridgeConfig | None:
        """The bridge that acts for a domain's users, if any."""
        return next((bridge for bridge in self.bridges if domain in bridge.domains), None)
