"""The parts of a bridge over one database, put together. What they do together is in ``runner``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from bridges.matrix.aside import SetAside
from bridges.matrix.commands import Commands
from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.device_states import has_secrets
from bridges.matrix.doubles.parts import double_puppeting
from bridges.matrix.doubles.sealing import Sealing
from bridges.matrix.expiry import Expiry
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.guests import Guests
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.importer import Importer
from bridges.matrix.inbound import Inbound
from bridges.matrix.kept import Kept
from bridges.matrix.keyfile import KEY_BYTES, storage_key
from bridges.matrix.links import RoomLinks
from bridges.matrix.media import MediaCopier
from bridges.matrix.megolm.machine import Encryption
from bridges.matrix.membership import Membership
from bridges.matrix.message_map import Messages
from bridges.matrix.notices import Notices
from bridges.matrix.outbound import Outbound
from bridges.matrix.people import People
from bridges.matrix.portals import Portals
from bridges.matrix.puppets import DEVICE, Puppets
from bridges.matrix.queue import IncomingQueue
from bridges.matrix.receipts import Receipts
from bridges.matrix.restored import Restored
from bridges.matrix.retention import Retention
from bridges.matrix.shared_state import SharedState
from bridges.matrix.translation import Translation
from bridges.matrix.typists import Typists
from bridges.matrix.unbridging import Unbridging
from bridges.matrix.upgrades import Upgrades
from linearized.client import ProviderApi

# Randomness in the transaction ID of what is said again each time.
UNIQUE_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a bridge needs of the world: connections, the time (milliseconds), and randomness."""

    homeserver: httpx.AsyncClient
    provider: httpx.AsyncClient
    clock: Callable[[], int]
    ids: Callable[[int], str]
    random: Callable[[int], bytes]


class Parts:
    """Each part of the bridge, by its name."""

    def __init__(self, config: BridgeConfig, database: Database, environment: Environment) -> None:
        self.links = RoomLinks(database)
        names = config.names
        # Rooms whose import is under way, or just begun.
        self.importing: set[str] = set()
        self.aside = SetAside(database)
        key = storage_key(
            config.storage_key_path,
            fresh=environment.random(KEY_BYTES),
            required=has_secrets(database),
        )
        self.sealing = Sealing(key, environment.random)
        self.queue = IncomingQueue(database, conceal=self.sealing.conceal)
        self.encryption = Encryption(
            config=config,
            key=key,
            database=database,
            http=environment.homeserver,
            clock=environment.clock,
            ids=environment.ids,
        )
        homeserver = HomeserverApi(
            config.homeserver_url,
            token=config.as_token,
            http=environment.homeserver,
            user_id=names.bot,
            seal=self.encryption.seal,
        )
        self.encryption.taking_part.use(homeserver)
        self.homeserver = homeserver
        self.notices = Notices(homeserver)
        doubles = double_puppeting(
            config=config,
            database=database,
            sealing=self.sealing,
            homeserver=homeserver,
            http=environment.homeserver,
            notices=self.notices,
            is_encrypted=self.encryption.taking_part.is_encrypted,
            clock=environment.clock,
            ids=environment.ids,
        )
        self.login, self.speaking = doubles.login, doubles.speaking
        provider = ProviderApi(
            config.provider_url,
            token=config.provider_token,
            http=environment.provider,
            clock=environment.clock,
            ids=environment.ids,
        )
        self.puppets = Puppets(
            provider,
            database,
            bot=config.bot,
            domain=config.homeserver_domain,
            key=key,
            random=environment.random,
        )
        self.puppets.seal()
        bot = provider.as_user(config.bot, DEVICE)
        media = MediaCopier(provider=bot, homeserver=homeserver, database=database, random=environment.random)
        people = People(homeserver, self.puppets, names)
        self.ghosts = Ghosts(homeserver, database, names)
        self.guests = Guests(
            config=config,
            links=self.links,
            homeserver=homeserver,
            puppets=self.puppets,
            people=people,
            ghosts=self.ghosts,
            notices=self.notices,
        )
        self.importer = Importer(
            config=config,
            database=database,
            homeserver=homeserver,
            provider=bot,
            media=media,
            people=people,
            guests=self.guests,
        )
        self.shared = SharedState(
            database=database,
            names=names,
            homeserver=homeserver,
            puppets=self.puppets,
            people=people,
            translation=Translation(names=names, bot=config.bot, media=media, database=database),
        )
        membership = Membership(
            database=database,
            names=names,
            homeserver=homeserver,
            puppets=self.puppets,
            people=people,
            ghosts=self.ghosts,
            media=media,
        )
        self.expiry = Expiry(
            database=database,
            ghosts=self.ghosts,
            speaking=doubles.speaking,
            bot=homeserver.as_user(names.bot),
            clock=environment.clock,
        )
        self.outbound = Outbound(
            database=database,
            names=names,
            bot=config.bot,
            puppets=self.puppets,
            people=people,
            membership=membership,
            media=media,
            homeserver=homeserver,
            shared=self.shared,
            speaking=doubles.speaking,
            random=environment.random,
            reopened=self.encryption.reopened,
            retention=Retention(database=database, bot=homeserver.as_user(names.bot)),
        )
        self.receipts = Receipts(
            wanted=config.read_receipts,
            names=names,
            puppets=self.puppets,
            ghosts=self.ghosts,
            links=self.links,
            messages=Messages(database),
            speaking=doubles.speaking,
            random=environment.random,
        )
        self.kept = Kept(database, self.sealing, hours=config.keep_hours, clock=environment.clock)
        self.typists = Typists(
            wanted=config.typing,
            names=names,
            ghosts=self.ghosts,
            links=self.links,
            provider=provider,
            bot=config.bot,
        )
        self.inbound = Inbound(
            kept=self.kept,
            receipts=self.receipts,
            database=database,
            names=names,
            bot=config.bot,
            puppets=self.puppets,
            membership=membership,
            ghosts=self.ghosts,
            media=media,
            homeserver=homeserver,
            shared=self.shared,
            login=doubles.login,
            speaking=doubles.speaking,
            is_encrypted=self.encryption.taking_part.is_encrypted,
            expiry=self.expiry,
        )
        self.restored = Restored(
            database=database,
            homeserver=homeserver,
            ghosts=self.ghosts,
            membership=membership,
            shared=self.shared,
            inbound=self.inbound,
            expiry=self.expiry,
            encryption=self.encryption,
            kept=self.kept,
        )
        self.upgrades = Upgrades(
            database=database,
            bot=homeserver.as_user(names.bot),
            bot_name=names.bot,
            notices=self.notices,
            put_right=self.restored.put_right,
        )
        self.unbridging = Unbridging(
            database=database,
            homeserver=homeserver,
            puppets=self.puppets,
            people=people,
            ghosts=self.ghosts,
            names=names,
            forget=self.encryption.forget,
            redact_all=self.expiry.redact_all,
            random=environment.random,
        )
        self.commands = Commands(
            config=config,
            homeserver=homeserver,
            people=people,
            unbridging=self.unbridging,
            database=database,
            importing=self.importing,
            rooms=self.encryption.rooms,
            unique=lambda: environment.ids(UNIQUE_BYTES),
            notices=self.notices,
            more=doubles.commands.verbs,
        )
        self.portals = Portals(
            config=config,
            database=database,
            homeserver=homeserver,
            puppets=self.puppets,
            ghosts=self.ghosts,
            shared=self.shared,
        )
