"""The bridge as a whole: its parts put together, and its loops.

One loop hands the homeserver's events out, one reads the rooms, one audits, and each import is a task of
its own. All of them survive the absence of either side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import structlog
import trio

from bridges.matrix.appservice import AppService
from bridges.matrix.audit import audit
from bridges.matrix.checks import WHO_THERE, Check, Outcome, check_both, check_encrypted_rooms
from bridges.matrix.commands import HELP, PREFIX, Commands, Refused, find_room
from bridges.matrix.config import BridgeConfig
from bridges.matrix.content import NotBridged
from bridges.matrix.database import Database, has_secrets
from bridges.matrix.failures import carried, persist
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.importer import Importer, ImportReport, Progress
from bridges.matrix.inbound import Inbound
from bridges.matrix.keyfile import KEY_BYTES, storage_key
from bridges.matrix.media import MediaCopier
from bridges.matrix.megolm.machine import Encryption
from bridges.matrix.membership import Membership
from bridges.matrix.outbound import Outbound
from bridges.matrix.people import People
from bridges.matrix.portals import Portals
from bridges.matrix.power import RoomPower
from bridges.matrix.provisioning import Provisioning
from bridges.matrix.puppets import DEVICE, Puppets
from bridges.matrix.receipts import Receipts
from bridges.matrix.records import Incoming, IncomingQueue, Messages, Phase, RoomLinks, SetAside
from bridges.matrix.shared_state import SharedState
from bridges.matrix.translation import Translation
from bridges.matrix.unbridging import Unbridging
from linearized.client import ClientError, ProviderApi
from linearized.exceptions import ConfigError

# Connections kept to each side; every puppet that sends at once needs one.
MAX_CONNECTIONS = 50

# Randomness in the transaction ID of what is said about an import: each import says it.
_UNIQUE_BYTES = 16

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a bridge needs of the world: connections, the time (milliseconds), and randomness."""

    homeserver: httpx.AsyncClient
    provider: httpx.AsyncClient
    clock: Callable[[], int]
    ids: Callable[[int], str]
    random: Callable[[int], bytes]


class Bridge:
    """All parts of the bridge over one database."""

    def __init__(self, config: BridgeConfig, database: Database, environment: Environment) -> None:
        self.config = config
        self.queue = IncomingQueue(database)
        self.links = RoomLinks(database)
        self._arrived = trio.Event()
        self._environment = environment
        names = config.names
        self._names = names
        # Rooms whose import is under way, or just begun.
        self.importing: set[str] = set()
        self.aside = SetAside(database)
        key = storage_key(
            config.storage_key_path,
            fresh=environment.random(KEY_BYTES),
            required=has_secrets(database),
        )
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
        self.encryption.use(homeserver)
        self._homeserver = homeserver
        provider = ProviderApi(
            config.provider_url,
            token=config.provider_token,
            http=environment.provider,
            clock=environment.clock,
            ids=environment.ids,
        )
        self.puppets = Puppets(provider, database, bot=config.bot, key=key, random=environment.random)
        self.puppets.seal()
        bot = provider.as_user(config.bot, DEVICE)
        media = MediaCopier(provider=bot, homeserver=homeserver, database=database, random=environment.random)
        people = People(homeserver, self.puppets, names)
        self.ghosts = Ghosts(homeserver, database, names)
        self.importer = Importer(
            config=config,
            database=database,
            homeserver=homeserver,
            provider=bot,
            media=media,
            people=people,
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
            random=environment.random,
            reopened=self.encryption.reopened,
        )
        self.receipts = Receipts(
            wanted=config.read_receipts,
            names=names,
            puppets=self.puppets,
            ghosts=self.ghosts,
            links=self.links,
            messages=Messages(database),
            random=environment.random,
        )
        self.inbound = Inbound(
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
            is_encrypted=self.encryption.is_encrypted,
        )
        self.unbridging = Unbridging(
            database=database,
            homeserver=homeserver,
            puppets=self.puppets,
            people=people,
            ghosts=self.ghosts,
            names=names,
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
            unique=lambda: environment.ids(_UNIQUE_BYTES),
        )
        self.portals = Portals(
            config=config,
            database=database,
            homeserver=homeserver,
            puppets=self.puppets,
            ghosts=self.ghosts,
            shared=self.shared,
        )
        # Until the bridge runs, an import that is asked for is noted, and begins when it does.
        self._begin: Callable[[str], None] = self._note
        provisioning = Provisioning(
            token=config.provisioning_token,
            database=database,
            homeserver=homeserver,
            seconds=lambda: environment.clock() / 1000,
            begin=self.begin,
            unbridge=self.unbridging.run,
            importing=self.importing,
        )
        self.app = AppService(
            hs_token=config.hs_token,
            queue=self.queue,
            keep=self.encryption.receive,
            hear=self.receipts.hear,
            arrived=self.wake,
            user_exists=self.ghosts.answer_query,
            room_exists=self.portals.answer_query,
            provision=provisioning.answer,
        )

    def wake(self) -> None:
        """There may be something in the queue."""
        self._arrived.set()

    async def check(self) -> list[Check]:
        """Whether both sides are there and know us; the homeserver reaches us only while we listen."""
        environment = self._environment
        checks = await check_both(
            self.config, homeserver=environment.homeserver, provider=environment.provider
        )
        if any(check.name == WHO_THERE and check.outcome is Outcome.OK for check in checks):
            try:
                await self.ghosts.ensure_bot()
                await self.encryption.start()
                await self.encryption.verify()
                missing = self.encryption.extensions.missing()
            except ClientError as error:
                missing = str(error)
            checks.append(check_encrypted_rooms(self.config, missing))
        return checks

    async def start(self) -> None:
        """Introduce ourselves to both sides; keeps trying until they are there."""
        bot = self.puppets.bot.device.owner.user_id
        await _until_there(self.ghosts.ensure_bot)
        await _until_there(lambda: self.puppets.ready(bot))
        # A homeserver that saw us down delivers again after a ping, and not before its next event otherwise.
        await _until_there(lambda: self._homeserver.ping(self.config.id))
        await _until_there(self.encryption.start)

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            for link in self.links.all():
                if link.phase is not Phase.LIVE:
                    nursery.start_soon(self._import, link.matrix_room_id)

            def begin(matrix_room_id: str) -> None:
                # On disk first: an import that is asked for survives a kill.
                self._note(matrix_room_id)
                self.importing.add(matrix_room_id)
                nursery.start_soon(self._import, matrix_room_id)

            self._begin = begin
            nursery.start_soon(self._outbound_loop)
            nursery.start_soon(self._inbound_loop)
            nursery.start_soon(self._audit_loop)
            nursery.start_soon(self.receipts.run)
            nursery.start_soon(self.encryption.verify)

    async def find_room(self, name: str) -> str:
        """The Matrix room that an ID or an alias names.

        Raises:
            ConfigError: none.
            ClientError: the homeserver does not say.
        """
        try:
            return await find_room(self._homeserver, name)
        except Refused as refusal:
            raise ConfigError(str(refusal)) from None

    async def import_room(self, matrix_room_id: str, progress: Progress | None = None) -> ImportReport:
        """Join a room the bot was invited to, or that anyone may join, and bring it to life at the provider.

        Raises:
            ClientError: calling it again continues.
        """
        await self._homeserver.join(matrix_room_id)
        if progress is None:
            report = await self.importer.run(matrix_room_id)
        else:
            report = await self.importer.run(matrix_room_id, progress)
        self.wake()
        return report

    async def dispatch(self, incoming: Incoming, begin: Callable[[str], None]) -> None:
        """Deal with one event from the homeserver: what is meant for the bot, or what crosses.

        ``begin`` starts the import of a room, whose link exists by then, and returns at once.
        """
        mine = False
        opened: Incoming | None = None

        async def work() -> None:
            nonlocal mine, opened
            opened = await self.encryption.opened(incoming)
            if opened is None:
                return
            if self._invites_us(incoming):
                mine = True
                await self._invited(incoming, begin)
            elif (command := await self.commands.find(opened)) is not None:
                mine = True
                await self.commands.carry_out(command, begin, txn_id=f"answer-{incoming.event_id}")

        reason = await carried(work)
        if reason is not None:
            log.error("set aside", event_id=incoming.event_id, room_id=incoming.room_id, reason=reason)
            self.aside.put(incoming.room_id, incoming.event_id, reason)
        if mine or reason is not None:
            self.queue.finish(incoming, skipped=reason)
        elif opened is not None:
            await self.outbound.handle(opened)

    def _invites_us(self, incoming: Incoming) -> bool:
        event = incoming.event
        content = event.get("content")
        return (
            event.get("type") == "m.room.member"
            and event.get("state_key") == self._names.bot
            and isinstance(content, dict)
            and content.get("membership") == "invite"
            and self.links.of_matrix(incoming.room_id) is None
        )

    async def _invited(self, incoming: Incoming, begin: Callable[[str], None]) -> None:
        """Join. Unless it is for a talk with the bot, the room is to be bridged, if the one who asks may."""
        room_id, sender = incoming.room_id, str(incoming.event.get("sender"))
        await self._homeserver.join(room_id)
        answer = f"answer-{incoming.event_id}"
        if incoming.event["content"].get("is_direct") is True or not self.config.bridge_invited_rooms:
            await self.commands.say(room_id, HELP, txn_id=answer)
            return
        power = RoomPower.of(await self._homeserver.state(room_id))
        if sender in self.config.operators or power.may_bridge(sender):
            begin(room_id)
        else:
            text = f"Somebody who may change power levels has to say {PREFIX} bridge; {sender} may not."
            await self.commands.say(room_id, text, txn_id=answer)

    async def upcoming(self) -> Incoming | None:
        """The event whose turn it is, once what came for the encryption of rooms has been dealt with: keys
        come before what they open.
        """
        await self.encryption.work()
        return self.queue.next()

    # --- loops ---

    async def _import(self, matrix_room_id: str) -> None:
        text = ""

        async def work() -> None:
            nonlocal text
            report = await self.import_room(matrix_room_id)
            log.info("a room is bridged", room_id=matrix_room_id, report=report)
            text = (
                f"This room is bridged: {report.imported} events imported, {report.left_out} left out,"
                f" {report.failed} refused. {PREFIX} help says what I can do."
            )

        self.importing.add(matrix_room_id)
        try:
            error = await persist(work)
        finally:
            self.importing.discard(matrix_room_id)
        if error is not None:
            log.error("a room cannot be bridged", room_id=matrix_room_id, error=str(error))
            text = f"This room could not be bridged: {error}. {PREFIX} bridge tries again."
        txn_id = f"imported-{matrix_room_id}-{self._environment.ids(_UNIQUE_BYTES)}"
        await persist(lambda: self.commands.say(matrix_room_id, text, txn_id=txn_id))

    def begin(self, matrix_room_id: str) -> None:
        """Begin the import of a room; returns at once."""
        self._begin(matrix_room_id)

    def _note(self, matrix_room_id: str) -> None:
        self.links.begin(matrix_room_id)

    async def _outbound_loop(self) -> None:
        while True:
            self._arrived = trio.Event()
            incoming = await self.upcoming()
            if incoming is None:
                with trio.move_on_after(self.encryption.patience()):
                    await self._arrived.wait()
            else:
                await self.dispatch(incoming, self.begin)

    async def _inbound_loop(self) -> None:
        async with aclosing(self.puppets.bot.items()) as items:
            async for item in items:
                await self.inbound.handle(item)

    async def _audit_loop(self) -> None:
        while True:
            await persist(self.encryption.read_inboxes)
            for link in self.links.all():
                if link.phase is Phase.LIVE:
                    try:
                        await self.shared.align(link)
                        found = await audit(link, self._homeserver, self.queue)
                    except (ClientError, NotBridged) as error:  # a side is away; the next audit finds as much
                        log.warning("an audit failed", room_id=link.matrix_room_id, error=str(error))
                        continue
                    if found:
                        log.info("the homeserver had not pushed", room_id=link.matrix_room_id, events=found)
                        self.wake()
            await trio.sleep(self.config.audit_seconds)


async def _until_there(work: Callable[[], Awaitable[object]]) -> None:
    """Do something at the start; a refusal means that a token or a registration is wrong, and is final."""

    async def once() -> None:
        await work()

    error = await persist(once)
    if error is not None:
        raise error
