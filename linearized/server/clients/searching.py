"""``POST search``: in the texts of plain events that the caller may read.

Nothing is indexed, so that no append costs more for it: a search reads logs from their ends, as ``/messages``
does, and stops after so many entries; ``next_batch`` goes on from there. What is encrypted, only clients can
search.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import trio

from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_room_id
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid
from linearized.server.clients.ignoring import heard, ignored_by
from linearized.server.clients.projection import client_events, state_events
from linearized.server.clients.search_requests import Search, parse_search
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import View, fitting
from linearized.server.histories import MEMBER_TYPE, content_of
from linearized.server.http import Request, Response, json_response
from linearized.server.redactions import redactions_of, told_content
from linearized.server.soft_failures import shown
from linearized.store.base import EntryRow, MembershipRow, Role, Store

# Entries read for one answer, some microseconds each. Who looks further back asks again.
MAX_SCANNED: Final = 20_000
# Rooms looked into for one answer: each costs some look-ups, even if it is empty.
MAX_ROOMS: Final = 500
_END: Final = 10**17  # behind every entry
PAGE: Final = 200  # read before others get a turn
_AROUND_BYTES: Final = 65_536  # of the events on each side of a result; one always fits
_TOKEN: Final = re.compile(r"(0|[1-9][0-9]{0,17})_(.+)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    entry: EntryRow
    view: View
    hits: int


@dataclass(slots=True)
class _Scan:
    """Reads rooms in the order of their IDs, each from its end, and knows where it stopped."""

    context: Context
    caller: Caller
    wanted: Search
    scanned: int = 0
    next_batch: str | None = None

    async def run(self, start: tuple[str, int] | None) -> list[_Found]:
        """What matches, until there is no more or enough was found or read."""
        found: list[_Found] = []
        rows = sorted(self.context.node.store.rooms_of(self.caller.user_id), key=lambda row: row.room_id)
        rows = [row for row in rows if start is None or row.room_id >= start[0]]
        for row in rows[:MAX_ROOMS]:
            await trio.lowlevel.checkpoint()
            view = self._view(row)
            if view is None:
                continue
            before = view.head + 1
            if start is not None and start[0] == row.room_id:
                before = min(start[1], before)
            if not await self._read(view, before, found):
                return found
        if len(rows) > MAX_ROOMS:
            self._stopped(rows[MAX_ROOMS].room_id, _END)
        return found

    async def _read(self, view: View, before: int, found: list[_Found]) -> bool:
        """Look through a room, and whether to go on with the next."""
        while page := view.before(self.context.node.store, before=before, after=0, limit=PAGE):
            if self.scanned >= MAX_SCANNED:
                self._stopped(view.room.room_id, before)
                return False
            await trio.lowlevel.checkpoint()
            self.scanned += len(page)
            before = page[-1].seq
            for one in self._matching(view, page):
                found.append(one)
                if len(found) == self.wanted.limit:
                    self._stopped(view.room.room_id, one.entry.seq)
                    return False
        return True

    def _stopped(self, room_id: str, before: int) -> None:
        self.next_batch = f"{before}_{room_id}"

    def _view(self, row: MembershipRow) -> View | None:
        """What of a room is searched. Followed rooms are encrypted; what is forgotten is not found either."""
        if not self.wanted.filter.rooms.allows(row.room_id) or self.context.views.forgotten(row):
            return None
        room = self.context.node.store.room(row.room_id)
        if room is None or room.role is Role.FOLLOWER:
            return None
        return self.context.views.view(room, row)

    def _matching(self, view: View, page: list[EntryRow]) -> list[_Found]:
        store = self.context.node.store
        likely = shown(store, [entry for entry in page if self.wanted.may_match(entry)])
        likely = heard(likely, ignored_by(store, self.caller.user_id)) if likely else []
        hits = [(entry, self.wanted.hits(entry, content_of(entry))) for entry in likely]
        redacted = redactions_of(store, [entry for entry, count in hits if count])
        return [
            _Found(entry=entry, view=view, hits=count)
            for entry, count in hits
            if count and entry.event_id not in redacted
        ]


async def search(context: Context, request: Request, caller: Caller) -> Response:
    """The newest matches of each room; ``count`` is of this answer, since nobody counted the others."""
    wanted = parse_search(await request.json())
    start = _start(request.query_one("next_batch"))
    context.node.query_limit.take(caller.user_id)
    scan = _Scan(context, caller, wanted)
    found = await scan.run(start) if wanted.words else []
    found.sort(key=lambda one: (one.hits if wanted.by_rank else 0, one.entry.origin_server_ts), reverse=True)
    answer: JsonObject = {
        "count": len(found),
        "highlights": list(wanted.words),
        "results": [_result(context, caller, wanted, one) for one in found],
    }
    if scan.next_batch is not None:
        answer["next_batch"] = scan.next_batch
    if wanted.groups:
        answer["groups"] = {key: _grouped(key, found) for key in wanted.groups}
    if wanted.state:
        heads = {one.view.room.room_id: one.view.head for one in found}
        answer["state"] = {
            room_id: state_events(context, caller, context.node.store.state_at(room_id, seq=head))
            for room_id, head in heads.items()
        }
    return json_response({"search_categories": {"room_events": answer}})


def _start(token: str | None) -> tuple[str, int] | None:
    if not token:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None or not is_room_id(match[2]):
        raise invalid("next_batch is no token of a search")
    return match[2], int(match[1])


def _result(context: Context, caller: Caller, wanted: Search, one: _Found) -> JsonObject:
    (event,) = client_events(context, caller, [one.entry])
    result: JsonObject = {"rank": float(one.hits), "result": event}
    if wanted.around is not None:
        result["context"] = _context(context, caller, one, wanted.around, profiles=wanted.profiles)
    return result


def _context(
    context: Context, caller: Caller, one: _Found, around: tuple[int, int], *, profiles: bool
) -> JsonObject:
    store, view, seq = context.node.store, one.view, one.entry.seq
    before = fitting(view.before(store, before=seq, after=0, limit=around[0]), _AROUND_BYTES)
    after = fitting(view.after(store, after=seq, before=view.head + 1, limit=around[1]), _AROUND_BYTES)
    found: JsonObject = {
        "events_before": client_events(context, caller, before),
        "events_after": client_events(context, caller, after),
        "start": place_token((before[-1].seq if before else seq) - 1),
        "end": place_token(after[-1].seq if after else seq),
    }
    if profiles:
        senders = dict.fromkeys(entry.sender for entry in (one.entry, *before, *after))
        found["profile_info"] = {
            user_id: _profile(store, view.room.room_id, user_id, seq) for user_id in senders
        }
    return found


def _profile(store: Store, room_id: str, user_id: str, seq: int) -> JsonObject:
    """ "The historic profile information of the users that sent the events"."""
    entry = store.state_entry(room_id, MEMBER_TYPE, user_id, seq=seq)
    content = told_content(store, entry) if entry is not None else {}
    names = {name: content.get(name) for name in ("displayname", "avatar_url")}
    return {name: value for name, value in names.items() if isinstance(value, str)}


def _grouped(key: str, found: list[_Found]) -> JsonObject:
    groups: dict[str, JsonObject] = {}
    for one in found:
        name = one.entry.room_id if key == "room_id" else one.entry.sender
        group = groups.setdefault(name, {"order": len(groups), "results": []})
        group["results"].append(one.entry.event_id)
    return groups
