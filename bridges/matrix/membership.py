"""Who comes and goes, both ways: what a member event does in the log and the group, and what it does in
Matrix.

An invitation, a removal, a ban, its end, a knock and a departure keep their reasons. Into the log they go as
their sender's, and the group follows by a commit of the bot's. In Matrix the bot acts for people at
providers: their ghosts seldom have the power, and the log has decided already that they had.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from bridges.matrix.attachments import is_mxc
from bridges.matrix.content import JsonObject, Known, NotBridged
from bridges.matrix.database import Database
from bridges.matrix.failures import is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link
from bridges.matrix.media import NO_FILE, MediaCopier
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names, presentable
from bridges.matrix.people import CHUNK, People
from bridges.matrix.puppets import Puppets
from linearized.client import ApiError, MembershipChanged
from linearized.protocol.identifiers import parse_user_id, user_id_from_uri, user_uri

MEMBER = "m.room.member"
GONE = frozenset({"leave", "ban"})
# A paragraph; the provider takes no longer one.
MAX_REASON = 1000
_FORBIDDEN, _NOT_FOUND = 403, 404

log = structlog.get_logger(__name__)


class Membership:
    """Carries member events."""

    def __init__(
        self,
        *,
        database: Database,
        names: Names,
        homeserver: HomeserverApi,
        puppets: Puppets,
        people: People,
        ghosts: Ghosts,
        media: MediaCopier,
    ) -> None:
        self._media = media
        self._names = names
        self._matrix = homeserver.as_user(names.bot)
        self._puppets = puppets
        self._people = people
        self._ghosts = ghosts
        self._messages = Messages(database)

    def participates(self, link: Link, user: str) -> bool:
        """Whether a user is on the group's list of participants."""
        return self._puppets.bot.device.participants(link.room_id or "").role_of(user_uri(user)) is not None

    # --- Matrix to room ---

    async def to_room(self, link: Link, event: JsonObject, sender: str, target: str) -> None:
        """Let a member event of the Matrix room happen at the provider.

        Raises:
            NotBridged: it changes nothing there.
            ClientError: a side is away or refuses; doing it again continues.
        """
        content = event.get("content")
        membership = str(content.get("membership")) if isinstance(content, dict) else ""
        if self._names.is_ours(target):
            if self._names.is_ours(sender) or target == self._names.bot:
                raise NotBridged("our own doing")
            await self._of_ghost(link, event, sender, target, membership)
        elif not self._names.is_bridged(target):
            raise NotBridged("a user of another homeserver")
        elif membership == "join":
            if not self.participates(link, target):
                await self._people.add(link, [target])
            await self.profile(link, event)
        elif membership in GONE:
            await self._gone(link, event, sender, target, membership)
            self._puppets.session(target).device.forget(link.room_id or "")
        else:
            await self._waits(link, event, sender, target, membership)

    async def profile(self, link: Link, event: JsonObject) -> None:
        """Give somebody who is in the room the name and the picture that a join of theirs has."""
        target, content = str(event["state_key"]), event["content"]
        new: JsonObject = {"membership": "join"}
        name = content.get("displayname")
        if isinstance(name, str) and presentable(name):
            new["displayname"] = presentable(name)
        picture = await self._picture(content, self._media.plain_to_provider)
        if picture is not None:
            new["avatar_url"] = picture
        here = await self._here(link, target)
        if here is not None and here["content"] != new and _membership(here) == "join":
            await self._send(link, event, target, target, new)

    async def _picture(self, content: JsonObject, copy: Callable[[str], Awaitable[str]]) -> str | None:
        """A copy of the picture of a member event, if it has one that can be had."""
        url = content.get("avatar_url")
        if not isinstance(url, str) or not is_mxc(url):
            return None
        try:
            return await copy(url)
        except (ApiError, *NO_FILE) as error:
            if is_passing(error):
                raise
            log.warning("a picture was not bridged", reason=str(error))
            return None

    async def _of_ghost(
        self, link: Link, event: JsonObject, sender: str, ghost: str, membership: str
    ) -> None:
        """A Matrix user did something to a ghost: inviting one adds the person, removing one removes them."""
        user = user_id_from_uri(self._names.uri(ghost))
        if membership == "invite":
            problem = await self._people.invite(link, user)
            if problem is not None:
                reason = f"{user} could not be added: {problem}"
                await self._ghosts.leave(link.matrix_room_id, ghost, reason=reason)
                raise NotBridged(reason)
        elif membership in GONE:
            self._ghosts.forget(link.matrix_room_id, ghost)
            await self._gone(link, event, sender, user, membership)
        else:
            raise NotBridged(f"the membership {membership} of a ghost")

    async def _gone(self, link: Link, event: JsonObject, sender: str, user: str, membership: str) -> None:
        """Somebody left, was removed, banned, or is no longer banned: first the log, then the group."""
        if self.participates(link, user) and self._is_elsewhere(user):
            # Another provider with nobody left in the room is sent nothing more, so the commit that removes
            # its last user must be what removes them from the room, too.
            await self._people.remove(link, [user])
            if membership == "leave":
                return
        before = _membership(await self._here(link, user))
        if membership != before and not (membership == "leave" and before is None):
            await self._do(link, event, sender, user, membership)
        elif not self.participates(link, user):
            raise NotBridged(f"the membership {membership} changes nothing")
        if self.participates(link, user):
            await self._people.remove(link, [user])

    def _is_elsewhere(self, user: str) -> bool:
        return not self._names.is_bridged(user) and parse_user_id(user)[1] != parse_user_id(self._bot)[1]

    async def _waits(self, link: Link, event: JsonObject, sender: str, user: str, membership: str) -> None:
        """Somebody is invited or knocks: that stands in the log, and changes nothing in the group."""
        if membership not in ("invite", "knock"):
            raise NotBridged(f"there is no membership {membership}")
        if _membership(await self._here(link, user)) in ("join", membership):
            raise NotBridged(f"the membership {membership} changes nothing")
        await self._do(link, event, sender, user, membership)

    async def _do(self, link: Link, event: JsonObject, sender: str, user: str, membership: str) -> None:
        """Put it into the log as the sender's doing, or the bot's for those who are not there."""
        if self._names.is_ours(sender):
            return  # the bot or a ghost did it because of the log
        content: JsonObject = {"membership": membership, **_reason(event)}
        acting = sender if self._names.is_bridged(sender) else self._bot
        try:
            await self._send(link, event, acting, user, content)
        except ApiError as error:
            if error.status != _FORBIDDEN or acting in (self._bot, user):
                raise
            # Matrix allowed it, by rules that the log does not have: creators above all levels, say.
            await self._send(link, event, self._bot, user, content)

    async def _send(self, link: Link, event: JsonObject, acting: str, user: str, content: JsonObject) -> None:
        event_id = str(event["event_id"])
        sent = await self._puppets.session(acting).api.send_state(
            link.room_id or "", MEMBER, user, content, ts=_timestamp(event), source_event_id=event_id
        )
        known = Known(matrix_event_id=event_id, log_event_id=sent, message_id=None, sender=acting)
        self._messages.put(link.matrix_room_id, known)

    async def _here(self, link: Link, user: str) -> JsonObject | None:
        """A user's member event in the log."""
        try:
            return await self._puppets.bot.api.state_event(link.room_id or "", MEMBER, user)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    # --- room to Matrix ---

    async def to_matrix(self, link: Link, item: MembershipChanged) -> None:
        """Let a member event of the log happen in Matrix.

        Raises:
            ClientError: the homeserver is away; doing it again continues.
        """
        # What the bot and the homeserver's users do, Matrix knows, or sees in what follows from it. Who
        # is added by a commit joins in their own name.
        if self._bot in (item.user_id, item.sender) or self._names.is_bridged(item.sender):
            return
        reason = _reason(item.event).get("reason", "")
        if self._names.is_bridged(item.user_id):
            why = f"{item.sender}: {reason}" if reason else item.sender
            await self._local(link, item, f"By {why}")
        else:
            await self._ghost(link, item, reason)

    async def _local(self, link: Link, item: MembershipChanged, reason: str) -> None:
        """Somebody at a provider invites, removes or bans one of the homeserver's users, or ends a ban."""
        room_id, user = link.matrix_room_id, item.user_id
        there = await self._there(link, user)
        if item.membership == "invite":
            if there not in ("join", "invite"):
                await self._allowed(link, item, self._matrix.invite(room_id, user, reason=reason))
        elif item.membership in GONE:
            self._puppets.session(user).device.forget(item.room_id)
            await self._sanction(link, item, user, there, reason)

    async def _ghost(self, link: Link, item: MembershipChanged, reason: str) -> None:
        room_id, user = link.matrix_room_id, item.user_id
        ghost = self._names.ghost(user_uri(user))
        if item.membership == "join":
            await self._ghosts.ensure_joined(room_id, ghost)
            await self._show(ghost, item.event.get("content") or {})
            return
        acting = await self._ghosts.ensure(ghost)
        why = f"By {item.sender}: {reason}" if reason else f"By {item.sender}"
        if item.membership == "invite":
            if await self._there(link, ghost) not in ("join", "invite"):
                await self._allowed(link, item, self._matrix.invite(room_id, ghost, reason=why))
        elif item.membership == "knock":
            await self._allowed(link, item, acting.knock(room_id, reason=reason))
        else:
            self._ghosts.forget(room_id, ghost)
            there = await self._there(link, ghost)
            if item.sender == user:
                if there in ("join", "invite", "knock"):
                    await acting.leave(room_id, reason=reason)
            else:
                await self._sanction(link, item, ghost, there, why)
            if self.participates(link, user):
                # Whoever is out is still in the group until a commit says otherwise.
                await self._people.remove(link, [user])

    async def again(self, link: Link) -> None:
        """Make the Matrix room's members those that it has to have, after it has forgotten some: of people at
        providers the log knows who is there, of the homeserver's users the room does.

        Raises:
            ClientError: a side is away or refuses; doing it again continues.
        """
        room_id, bot = link.matrix_room_id, self._puppets.bot
        joined = set(await self._matrix.joined_members(room_id))
        everyone = bot.device.participants(link.room_id or "").participants
        inside = {user_id_from_uri(pair.user) for pair in everyone} - {self._bot}
        elsewhere = [user for user in inside if not self._names.is_bridged(user)]
        ghosts = {self._names.ghost(user_uri(user)): user for user in elsewhere}
        for ghost, user in sorted(ghosts.items()):
            await self._ghosts.ensure_joined(room_id, ghost)
            await self._show(ghost, ((await self._here(link, user)) or {}).get("content") or {})
        for user in sorted(joined - {self._names.bot} - set(ghosts)):
            if self._names.is_ours(user):
                await self._ghosts.leave(room_id, user)
        ours = {user for user in joined if self._names.is_bridged(user)}
        gone = sorted(user for user in inside - ours if self._names.is_bridged(user))
        if gone:
            await self._people.remove(link, gone)
        back = []
        for user in sorted(ours - inside):
            if _membership(await self._here(link, user)) == "ban":
                await self._matrix.ban(room_id, user, reason="")
            else:
                back.append(user)
        for start in range(0, len(back), CHUNK):
            await self._people.add(link, back[start : start + CHUNK])

    async def _show(self, ghost: str, content: JsonObject) -> None:
        """Keep the ghost's profile up to date: of the names a person has in rooms, the newest."""
        name = content.get("displayname")
        picture = await self._picture(content, self._media.plain_to_matrix)
        if isinstance(name, str) or picture is not None:
            await self._ghosts.show(ghost, name=name if isinstance(name, str) else "", avatar=picture)

    async def _sanction(
        self, link: Link, item: MembershipChanged, user: str, there: str | None, reason: str
    ) -> None:
        """Remove, ban, or end a ban, whichever brings Matrix to what the log says."""
        room_id = link.matrix_room_id
        if item.membership == "ban" and there != "ban":
            await self._allowed(link, item, self._matrix.ban(room_id, user, reason=reason))
        elif item.membership == "leave" and there == "ban":
            await self._allowed(link, item, self._matrix.unban(room_id, user, reason=reason))
        elif item.membership == "leave" and there in ("join", "invite", "knock"):
            await self._allowed(link, item, self._matrix.kick(room_id, user, reason=reason))

    async def _allowed(self, link: Link, item: MembershipChanged, work: Any) -> None:
        """Await ``work``; a homeserver that does not allow it is named in the room, so nobody is surprised
        that the sides differ.
        """
        try:
            await work
        except ApiError as error:
            if is_passing(error):
                raise
            text = (
                f"{item.sender} set the membership of {item.user_id} to {item.membership}; I could not do"
                f" that here: {error}"
            )
            content = {"msgtype": "m.notice", "body": text}
            await self._matrix.send(
                link.matrix_room_id, "m.room.message", content, txn_id=f"refused-{item.event_id}"
            )

    async def _there(self, link: Link, user: str) -> str | None:
        """A user's membership in the Matrix room."""
        try:
            return _membership(await self._matrix.state_event(link.matrix_room_id, MEMBER, user))
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    @property
    def _bot(self) -> str:
        return self._puppets.bot.device.owner.user_id


def _membership(event: JsonObject | None) -> str | None:
    content = (event or {}).get("content")
    value = content.get("membership") if isinstance(content, dict) else None
    return value if isinstance(value, str) else None


def _reason(event: JsonObject) -> dict[str, str]:
    content = event.get("content")
    value = content.get("reason") if isinstance(content, dict) else None
    return {"reason": value[:MAX_REASON]} if isinstance(value, str) and value else {}


def _timestamp(event: JsonObject) -> int | None:
    value = event.get("origin_server_ts")
    return value if isinstance(value, int) and value >= 0 else None
