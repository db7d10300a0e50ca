"""What becomes of an event that the homeserver pushed: it is for the bot, our own doing, or it crosses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from bridges.matrix.commands import HELP, PREFIX
from bridges.matrix.config import BridgeConfig
from bridges.matrix.failures import carried
from bridges.matrix.links import Link
from bridges.matrix.parts import Parts
from bridges.matrix.power import RoomPower
from bridges.matrix.queue import Incoming
from bridges.matrix.unbridging import WAITS_OUTSIDE

log = structlog.get_logger(__name__)


class Dispatching:
    """Decides, one event after another."""

    def __init__(self, config: BridgeConfig, parts: Parts) -> None:
        self._config = config
        self._names = config.names
        self._parts = parts

    async def dispatch(self, incoming: Incoming, begin: Callable[[str], None]) -> None:
        """Deal with one event from the homeserver: what is meant for the bot, or what crosses.

        ``begin`` starts the import of a room, whose link exists by then, and returns at once.
        """
        mine = ours = False
        opened: Incoming | None = None

        async def work() -> None:
            nonlocal mine, ours, opened
            opened = await self._parts.encryption.opened(incoming)
            if opened is None:
                return
            opened = replace(opened, event=self._parts.sealing.reveal(opened.event))
            if self._names.is_bridged(str(opened.event.get("sender"))) and self._parts.speaking.is_echo(
                opened.event
            ):
                ours = True  # and no command, whoever said it at a provider
            elif self._invites_us(incoming):
                mine = True
                await self._invited(incoming, begin)
            elif (ended := self._parts.unbridging.ends(incoming)) is not None:
                mine = True
                log.info("the bot was put out of a room", room_id=incoming.room_id)
                await self._parts.unbridging.put_out(ended)
            elif self._parts.upgrades.is_end(incoming):
                mine = True
                await self._parts.upgrades.follow(incoming)
            elif self._parts.guests.is_for_us(incoming):
                mine = True
                await self._parts.guests.invited(incoming, begin)
            elif (command := await self._parts.commands.find(opened)) is not None:
                mine = True
                await self._parts.commands.carry_out(command, begin, txn_id=f"answer-{incoming.event_id}")

        reason = await carried(work)
        if reason is not None:
            log.error("set aside", event_id=incoming.event_id, room_id=incoming.room_id, reason=reason)
            self._parts.aside.put(incoming.room_id, incoming.event_id, reason)
        if ours:
            self._parts.queue.finish(incoming, skipped="our own doing")
        elif mine or reason is not None:
            self._parts.queue.finish(incoming, skipped=reason)
        elif opened is not None:
            if opened.event.get("type") == "m.room.redaction":
                content = opened.event.get("content")
                inside = content.get("redacts") if isinstance(content, dict) else None
                self._parts.kept.redacted(str(opened.event.get("redacts") or inside))
            await self._parts.outbound.handle(opened)

    def _invites_us(self, incoming: Incoming) -> bool:
        event = incoming.event
        content = event.get("content")
        return (
            event.get("type") == "m.room.member"
            and event.get("state_key") == self._names.bot
            and isinstance(content, dict)
            and content.get("membership") == "invite"
            # A ghost brings it into rooms that are bridged already.
            and not self._names.is_ours(str(event.get("sender")))
        )

    async def _invited(self, incoming: Incoming, begin: Callable[[str], None]) -> None:
        """Join. Unless it is for a talk with the bot, the room is to be bridged, if the one who asks may."""
        room_id, sender = incoming.room_id, str(incoming.event.get("sender"))
        await self._parts.homeserver.join(room_id)
        answer = f"answer-{incoming.event_id}"
        link = self._parts.links.of_matrix(room_id)
        if link is not None:
            await self._back(link, sender, answer)
            return
        if await self._parts.upgrades.came_into(room_id):
            return
        if incoming.event["content"].get("is_direct") is True or not self._config.bridge_invited_rooms:
            await self._parts.notices.say(room_id, HELP, txn_id=answer)
            return
        if await self._may_bridge(room_id, sender):
            begin(room_id)
        else:
            text = f"Somebody who may change power levels has to say {PREFIX} bridge; {sender} may not."
            await self._parts.notices.say(room_id, text, txn_id=answer)

    async def _back(self, link: Link, sender: str, answer: str) -> None:
        """The bot is invited into a room that is bridged and that it was in: somebody put it out, or the
        homeserver has forgotten that it was there.
        """
        if await self._may_bridge(link.matrix_room_id, sender):
            self._parts.restored.again(link)
        else:
            text = f"Somebody who may change power levels has to invite me; {sender} may not."
            await self._parts.notices.say(link.matrix_room_id, text, txn_id=answer)
            await self._parts.homeserver.leave(link.matrix_room_id, reason=WAITS_OUTSIDE)

    async def _may_bridge(self, room_id: str, user: str) -> bool:
        power = RoomPower.of(await self._parts.homeserver.state(room_id))
        return user in self._config.operators or power.may_bridge(user)
