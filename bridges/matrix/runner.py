"""The bridge as a whole: what it does when it starts, and its loops.

One loop hands the homeserver's events out, one reads the rooms, one audits, and each import is a task of
its own. All of them survive the absence of either side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial

import structlog
import trio

from bridges.matrix.appservice import AppService
from bridges.matrix.audit import Audits, CatchingUp
from bridges.matrix.checks import WHO_THERE, Check, Outcome, check_both, check_encrypted_rooms
from bridges.matrix.commands import PREFIX, Refused, find_room
from bridges.matrix.config import BridgeConfig
from bridges.matrix.content import NotBridged
from bridges.matrix.database import Database
from bridges.matrix.dispatching import Dispatching
from bridges.matrix.doubles.provisioning import DoublesProvisioning
from bridges.matrix.failures import persist
from bridges.matrix.import_log import ImportLog
from bridges.matrix.importer import ImportReport, Progress
from bridges.matrix.links import Phase
from bridges.matrix.parts import UNIQUE_BYTES, Environment, Parts
from bridges.matrix.provisioning import Provisioning
from bridges.matrix.queue import Incoming
from linearized.client import ClientError
from linearized.exceptions import ConfigError

log = structlog.get_logger(__name__)


class Bridge(Parts):
    """The parts of the bridge at work."""

    def __init__(self, config: BridgeConfig, database: Database, environment: Environment) -> None:
        super().__init__(config, database, environment)
        self.config = config
        self._environment = environment
        self._names = config.names
        self._arrived = trio.Event()
        self._audits = Audits(self.homeserver, self.queue)
        self._catching_up = CatchingUp(self._audits, self.queue, self.links, self.restored)
        self._dispatching = Dispatching(config, self)
        # Until the bridge runs, an import that is asked for is noted, and begins when it does.
        self._begin: Callable[[str], None] = self._note
        provisioning = Provisioning(
            token=config.provisioning_token,
            database=database,
            homeserver=self.homeserver,
            seconds=lambda: environment.clock() / 1000,
            begin=self.begin,
            unbridge=self.unbridging.run,
            doubles=DoublesProvisioning(self.login, self._names).answer,
            importing=self.importing,
        )
        self.app = AppService(
            hs_token=config.hs_token,
            queue=self.queue,
            keep=self.encryption.receive,
            hear=self._hear,
            note=self._catching_up.note,
            arrived=self.wake,
            user_exists=self.ghosts.answer_query,
            room_exists=self.portals.answer_query,
            provision=provisioning.answer,
        )

    def _hear(self, units: Sequence[object]) -> None:
        self.receipts.hear(units)
        self.typists.hear(units)

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
                await self.encryption.taking_part.start()
                await self.encryption.taking_part.verify()
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
        await _until_there(lambda: self.homeserver.ping(self.config.id))
        await _until_there(self.encryption.taking_part.start)

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
            nursery.start_soon(self.typists.run)
            nursery.start_soon(self.expiry.run)
            nursery.start_soon(partial(self.encryption.taking_part.verify, patient=True))

    async def find_room(self, name: str) -> str:
        """The Matrix room that an ID or an alias names.

        Raises:
            ConfigError: none.
            ClientError: the homeserver does not say.
        """
        try:
            return await find_room(self.homeserver, name)
        except Refused as refusal:
            raise ConfigError(str(refusal)) from None

    async def import_room(self, matrix_room_id: str, progress: Progress | None = None) -> ImportReport:
        """Join a room the bot was invited to, or that anyone may join, and bring it to life at the provider.

        Raises:
            ClientError: calling it again continues.
        """
        await self.homeserver.join(matrix_room_id)
        if progress is None:
            report = await self.importer.run(matrix_room_id)
        else:
            report = await self.importer.run(matrix_room_id, progress)
        self.wake()
        return report

    async def dispatch(self, incoming: Incoming, begin: Callable[[str], None]) -> None:
        """Deal with one event from the homeserver; as ``Dispatching``."""
        await self._dispatching.dispatch(incoming, begin)

    async def upcoming(self) -> Incoming | None:
        """The event whose turn it is, once what came for the encryption of rooms has been dealt with: keys
        come before what they open; and once what the homeserver may have forgotten was looked for.
        """
        await self.encryption.work()
        return await self._catching_up.next()

    # --- loops ---

    async def _import(self, matrix_room_id: str) -> None:
        text = ""

        async def work() -> None:
            nonlocal text
            said = ImportLog(matrix_room_id, self._environment.clock)
            report = await self.import_room(matrix_room_id, said)
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
        txn_id = f"imported-{matrix_room_id}-{self._environment.ids(UNIQUE_BYTES)}"
        await persist(lambda: self.notices.say(matrix_room_id, text, txn_id=txn_id))

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
                async with self.restored.lock:
                    await self.inbound.handle(item)

    async def _audit_loop(self) -> None:
        while True:
            await self.restored.mend()
            await persist(self.encryption.read_inboxes)
            for link in self.links.all():
                if link.phase is Phase.LIVE:
                    try:
                        await self.restored.look(link)
                        await self.shared.align(link)
                        found = await self._audits.run(link)
                    except (ClientError, NotBridged) as error:  # a side is away; the next audit finds as much
                        log.warning("an audit failed", room_id=link.matrix_room_id, error=str(error))
                        continue
                    if found:
                        log.info("the homeserver had not pushed", room_id=link.matrix_room_id, events=found)
                        self.wake()
            with trio.move_on_after(self.config.audit_seconds):
                await self.restored.noticed.wait()


async def _until_there(work: Callable[[], Awaitable[object]]) -> None:
    """Do something at the start; a refusal means that a token or a registration is wrong, and is final."""

    async def once() -> None:
        await work()

    error = await persist(once)
    if error is not None:
        raise error
