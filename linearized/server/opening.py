"""Opens a server: everything a ``Node`` holds, started in order and closed in reverse."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import openmls
import structlog
import trio

from linearized.config import Config
from linearized.exceptions import ConfigError, StoreError
from linearized.mimi.ohttp import GatewayKey
from linearized.own_keys import load_identity
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap
from linearized.provider_files import DATABASE
from linearized.server.auditing import Auditor
from linearized.server.copies import Copies
from linearized.server.fanout_tokens import FanoutTokens
from linearized.server.followers import Followers
from linearized.server.franking import Franking
from linearized.server.franking_keys import FrankingKeys, load_franking_keys
from linearized.server.gateway_keys import load_gateway_keys, turn_gateway_keys
from linearized.server.hub import Hub
from linearized.server.join_codes import JoinCodes
from linearized.server.keys import KeyRing
from linearized.server.metadata_policies import HubPolicies
from linearized.server.mls import OpenMls
from linearized.server.moves import Moves
from linearized.server.node import Node
from linearized.server.notaries import Notaries
from linearized.server.notifier import Notifier
from linearized.server.ordered_rooms import OrderedRooms
from linearized.server.outbound import FederationClient
from linearized.server.parents import Dependants, ParentRooms
from linearized.server.providers.client import ProviderClient
from linearized.server.pull_followers import PullFollowers
from linearized.server.pulling import Pulling
from linearized.server.rooms import Rooms
from linearized.server.takeovers import Takeovers
from linearized.server.telemetry import describe
from linearized.store.base import EntryRow, Store
from linearized.store.sqlite import SqliteStore

log = structlog.get_logger("linearized.opening")

MLS_KEY_FILE: Final = "mls-signing.key"
# Expired key packages and routes are never handed out, they only take space: an hour's worth is little.
HOUSEKEEPING_SECONDS: Final = 3600.0
DAY_MS: Final = 24 * 3_600_000


def system_clock() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_node(
    config: Config,
    *,
    clock: Callable[[], int] = system_clock,
    ids: Callable[[int], str] = secrets.token_urlsafe,
    federation: Callable[[Config, ServerIdentity, Callable[[], int]], FederationClient] | None = None,
    store_in_thread: bool = True,
) -> AsyncIterator[Node]:
    """Open the server the settings describe, and close it on the way out.

    Args:
        federation: makes the outbound client; tests give one that stays in memory.
        store_in_thread: False for tests under a mock clock (see ``SqliteStore.open``).

    Raises:
        ConfigError: a key file cannot be used.
        StoreError: the database cannot be used, for instance because another server does.
    """
    identity = load_identity(config.server_name, config.data_dir)
    mls_signer = _load_mls_signer(config.data_dir)
    franking_keys = load_franking_keys(config.data_dir)
    gateway_keys = load_gateway_keys(config.data_dir)
    store = SqliteStore.open(
        config.data_dir / DATABASE, synchronous=config.store.synchronous, in_thread=store_in_thread
    )
    make_client = federation or (lambda settings, who, now: FederationClient(settings, who, clock=now))
    try:
        # The writer outlives what writes: a batch taken up when the server stops is still stored.
        async with trio.open_nursery() as writing:
            await writing.start(store.run)
            async with make_client(config, identity, clock) as outbound, trio.open_nursery() as nursery:
                node = _assemble(
                    config=config,
                    identity=identity,
                    mls_signer=mls_signer,
                    franking_keys=franking_keys,
                    gateway_keys=gateway_keys,
                    store=store,
                    outbound=outbound,
                    nursery=nursery,
                    clock=clock,
                    ids=ids,
                )
                # First of all, so that what is remembered from now on is remembered as of today.
                await _tidy(store, clock)
                node.followers.start()
                node.audits.begin()
                nursery.start_soon(node.audits.run)
                node.moves.begin()
                nursery.start_soon(node.moves.run)
                node.copies.begin()
                nursery.start_soon(node.copies.run)
                nursery.start_soon(node.pulling.run)
                nursery.start_soon(node.dependants.run)
                nursery.start_soon(node.fanout_tokens.run)
                nursery.start_soon(_keep_house, store, clock)
                nursery.start_soon(_turn_gateway_keys, node)
                try:
                    yield node
                finally:
                    nursery.cancel_scope.cancel()
            writing.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


async def _keep_house(store: Store, clock: Callable[[], int]) -> None:
    """Remove what has expired, now and every ``HOUSEKEEPING_SECONDS``."""
    while True:
        while await _tidy(store, clock):
            await trio.lowlevel.checkpoint()  # other writes come in between
        await trio.sleep(HOUSEKEEPING_SECONDS)


async def _turn_gateway_keys(node: Node) -> None:
    """Have a new key for oblivious requests as often as the settings say, looking every
    ``HOUSEKEEPING_SECONDS``.
    """
    days = node.config.keys.gateway_days
    while days:
        try:
            keys = turn_gateway_keys(node.config.data_dir, now_ms=node.clock(), period_ms=days * DAY_MS)
        except ConfigError as error:  # a full disk, say; the keys that we have go on
            log.warning("gateway_keys_not_turned", **describe(error))
        else:
            if keys is not None:
                node.gateway_keys = keys
                log.info("gateway_keys_turned", present=keys[0].key_id, keys=len(keys))
        await trio.sleep(HOUSEKEEPING_SECONDS)


async def _tidy(store: Store, clock: Callable[[], int]) -> int:
    """Remove some of what has expired; how much, 0 also if that failed."""
    try:
        return await store.expire(clock())
    except StoreError as error:  # a full disk, say; nothing depends on it, so the next round tries again
        log.warning("housekeeping_failed", **describe(error))
        return 0


def _assemble(
    *,
    config: Config,
    identity: ServerIdentity,
    mls_signer: openmls.SignatureKeyPair,
    franking_keys: FrankingKeys,
    gateway_keys: tuple[GatewayKey, ...],
    store: Store,
    outbound: FederationClient,
    nursery: trio.Nursery,
    clock: Callable[[], int],
    ids: Callable[[int], str],
) -> Node:
    notifier = Notifier()
    providers = ProviderClient(outbound, own_name=identity.name, clock=clock)
    franking = Franking(franking_keys, own_name=identity.name, store=store)
    pulls = PullFollowers(
        store=store, key=identity.key, configured=config.pull_followers, frank_of=franking.of_entry
    )
    followers = Followers(
        own_name=identity.name,
        store=store,
        providers=providers,
        federation=outbound,
        nursery=nursery,
        frank_of=franking.of_entry,
        pulls=pulls,
    )
    served = frozenset({identity.name, *(domain for bridge in config.bridges for domain in bridge.domains)})

    def appended(room_id: str, state: StateMap, entries: Sequence[EntryRow]) -> None:
        notifier.room_changed(state)
        followers.appended(room_id, entries)
        node.dependants.appended(entries)

    rooms = OrderedRooms(
        identity=identity,
        store=store,
        mls=OpenMls(clock),
        signer=mls_signer,
        vouched=served - {identity.name},
        appended=appended,
        agents=franking.agents,
        authorities=config.authorities_of,
        parents=ParentRooms(store),
    )
    hub = Hub(rooms, clock=clock, nursery=nursery)
    node = Node(
        config=config,
        identity=identity,
        mls_signer=mls_signer,
        store=store,
        notifier=notifier,
        clock=clock,
        ids=ids,
        keys=KeyRing(
            identity=identity,
            store=store,
            fetch=outbound.server_keys,
            clock=clock,
            notaries=Notaries(config.keys.notaries, outbound.notary_keys),
        ),
        federation=outbound,
        providers=providers,
        followers=followers,
        franking=franking,
        gateway_keys=gateway_keys,
    )
    node.hub_policies = HubPolicies(providers, config, signer=mls_signer, clock=clock)
    node.rooms = Rooms(node, hub)
    node.join_codes = JoinCodes(node, hub)
    node.dependants = Dependants(store, hub)
    node.audits = Auditor(node)
    node.moves = Moves(node, hub)
    node.copies = Copies(node)
    node.takeovers = Takeovers(node, hub)
    node.pulling = Pulling(node)
    node.fanout_tokens = FanoutTokens(node)
    return node


def _load_mls_signer(data_dir: Path) -> openmls.SignatureKeyPair:
    """The key that signs GroupInfo responses; made the first time, readable by us alone."""
    path = data_dir / MLS_KEY_FILE
    try:
        if path.exists():
            return openmls.SignatureKeyPair.from_bytes(path.read_bytes())
        pair = openmls.SignatureKeyPair.generate()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
        with os.fdopen(handle, "wb") as file:
            file.write(pair.to_bytes())
    except (OSError, openmls.MlsError) as error:
        raise ConfigError(f"{path}: cannot use the MLS signing key: {error}") from error
    return pair
