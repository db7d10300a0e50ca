"""Two unmodified mautrix clients, alice and bob, do what people and bots do with them.

Run as a program by the interpreter of an environment that holds mautrix and nothing of ours::

    python mautrix_peer.py < request.json > seen.json

The request names ``homeserver`` and ``password``; the answer says what each step led to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mautrix.client import Client  # type: ignore[import-not-found]
from mautrix.errors import MUnknownToken  # type: ignore[import-not-found]
from mautrix.types import (  # type: ignore[import-not-found]
    EventFilter,
    EventType,
    Filter,
    GenericEvent,
    InReplyTo,
    PaginationDirection,
    RelatesTo,
    RelationType,
    RoomEventFilter,
    RoomFilter,
    RoomTagInfo,
    TextMessageEventContent,
)

PICTURE = b"\x89PNG\r\n\x1a\n and so on"
HISTORY = 30  # messages of which a sync tells only the last few


class User:
    """A client, and the events that its syncs gave to its handlers."""

    def __init__(self, homeserver: str, name: str) -> None:
        self.client = Client(mxid=f"@{name}:a.example", base_url=homeserver)
        self.client.add_event_handler(EventType.ALL, self._heard, wait_sync=True)
        self.heard: list[Any] = []
        self.since: str | None = None
        self.filter: str | None = None

    async def _heard(self, event: Any) -> None:
        self.heard.append(event)

    async def log_in(self, password: str) -> None:
        await self.client.login(password=password, device_name="tests")
        few = RoomFilter(timeline=RoomEventFilter(limit=5))
        self.filter = await self.client.create_filter(Filter(room=few, presence=EventFilter(types=[])))

    async def sync(self) -> Any:
        """What is new, as the server says it; handlers have heard of it, too."""
        answer = await self.client.sync(since=self.since, filter_id=self.filter, timeout=5_000)
        self.since = answer["next_batch"]
        await asyncio.gather(*self.client.handle_sync(answer))
        return answer

    def last(self, kind: Any) -> Any:
        """The last event of a type that was heard."""
        return next(event for event in reversed(self.heard) if event.type == kind)


async def talk(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the module says."""
    alice, bob = (User(request["homeserver"], name) for name in ("alice", "bob"))
    try:
        for user in (alice, bob):
            await user.log_in(request["password"])
        seen = await meet(alice, bob)
        room_id = seen.pop("room_id")
        seen |= await say(alice, bob, room_id)
        seen |= await read(alice, bob, room_id)
        seen |= await part(alice, bob, room_id)
        # What the library has a form for and could not put into it, it keeps as it came.
        generic = [event for user in (alice, bob) for event in user.heard if isinstance(event, GenericEvent)]
        return seen | {"unparsed": [str(event.type) for event in generic]}
    finally:
        for user in (alice, bob):
            await user.client.api.session.close()


async def meet(alice: User, bob: User) -> dict[str, Any]:
    """Profiles and files; a room, an invitation, a join."""
    picture = await alice.client.upload_media(PICTURE, mime_type="image/png", filename="dot.png")
    await alice.client.set_displayname("Alice")
    await alice.client.set_avatar_url(picture)
    profile = await bob.client.get_profile(alice.client.mxid)
    room_id = await alice.client.create_room(name="Harbour", topic="Ships", invitees=[bob.client.mxid])
    invitation = (await bob.sync())["rooms"]["invite"]
    await bob.client.join_room(room_id)
    await bob.sync()
    members = await bob.client.get_joined_members(room_id)
    return {
        "room_id": room_id,
        "versions": (await bob.client.versions()).supports("v1.11"),
        "whoami": (await bob.client.whoami()).user_id,
        "profile": [profile.displayname, profile.avatar_url == picture],
        "file": await bob.client.download_media(picture) == PICTURE,
        "invited": list(invitation) == [room_id],
        "joined": await bob.client.get_joined_rooms() == [room_id],
        "members": {user_id: member.displayname for user_id, member in members.items()},
        "state": sorted({str(event.type) for event in await bob.client.get_state(room_id)}),
    }


async def say(alice: User, bob: User, room_id: str) -> dict[str, Any]:
    """A message, an answer, a reaction, an edit and a redaction, each seen by the other's handlers."""
    first = await alice.client.send_text(room_id, "first", html="<b>first</b>")
    await bob.sync()
    heard = bob.last(EventType.ROOM_MESSAGE)
    to_first = RelatesTo(in_reply_to=InReplyTo(event_id=first))
    answer = await bob.client.send_text(room_id, "answer", relates_to=to_first)
    await bob.client.react(room_id, first, "\N{ANCHOR}")
    await alice.sync()
    reaction = alice.last(EventType.REACTION).content.relates_to
    better = TextMessageEventContent(msgtype="m.text", body="better")
    better.set_edit(answer)
    await bob.client.send_message(room_id, better)
    await alice.sync()
    edit = alice.last(EventType.ROOM_MESSAGE).content
    redaction = await alice.client.redact(room_id, first, reason="too soon")
    await bob.sync()
    redacted = bob.last(EventType.ROOM_REDACTION)
    return {
        "heard": [heard.event_id == first, heard.content.body, heard.content.formatted_body],
        "reaction": [reaction.event_id == first, reaction.key],
        "edit": [edit.relates_to.rel_type == RelationType.REPLACE, edit.serialize()["m.new_content"]["body"]],
        "answer": (await alice.client.get_event(room_id, answer)).content.get_reply_to() == first,
        "redaction": [redacted.event_id == redaction, redacted.redacts == first, redacted.content.reason],
        "redacted": (await bob.client.get_event(room_id, first)).content.serialize(),
    }


async def read(alice: User, bob: User, room_id: str) -> dict[str, Any]:
    """Typing, receipts, markers, data of the account; then a long history, paged back."""
    sent = await alice.client.send_notice(room_id, "read this")
    await bob.client.set_typing(room_id, 20_000)
    await bob.client.send_receipt(room_id, sent)
    await alice.sync()
    typing, receipts = alice.last(EventType.TYPING), alice.last(EventType.RECEIPT)
    await bob.client.set_typing(room_id, 0)
    await bob.client.set_fully_read_marker(room_id, sent, read_receipt=sent)
    await bob.client.set_account_data("org.example.colour", {"colour": "blue"})
    await bob.client.set_room_tag(room_id, "m.favourite", RoomTagInfo(order=0.5))
    told = (await bob.sync())["rooms"]["join"][room_id]["account_data"]["events"]
    for number in range(HISTORY):
        await alice.client.send_text(room_id, f"later {number}")
    timeline = (await bob.sync())["rooms"]["join"][room_id]["timeline"]
    paged, token, pages = [], timeline["prev_batch"], 0
    while token is not None:
        page = await bob.client.get_messages(room_id, PaginationDirection.BACKWARD, token, limit=20)
        paged += page.events
        token, pages = page.end, pages + 1
    later = [event.content.body for event in paged[: HISTORY - len(timeline["events"])]]
    context = await bob.client.get_event_context(room_id, sent, limit=4)
    return {
        "typing": typing.content.user_ids,
        "receipts": [
            [event_id == sent, str(kind), list(users)]
            for event_id, kinds in receipts.content.items()
            for kind, users in kinds.items()
        ],
        "markers": sorted(event["type"] for event in told),
        "account_data": await bob.client.get_account_data("org.example.colour"),
        "tags": (await bob.client.get_room_tags(room_id)).serialize(),
        "limited": [timeline["limited"], len(timeline["events"])],
        "paged": [
            pages,
            later == [f"later {number}" for number in reversed(range(len(later)))],
            str(paged[-1].type),
        ],
        "context": [context.event.content.body, len(context.events_before), len(context.events_after)],
    }


async def part(alice: User, bob: User, room_id: str) -> dict[str, Any]:
    """Leaving, and logging out of one of two devices."""
    await bob.client.leave_room(room_id, reason="enough")
    left = (await bob.sync())["rooms"]["leave"]
    await alice.sync()
    member = alice.last(EventType.ROOM_MEMBER)
    await bob.client.forget_room(room_id)
    token = bob.client.api.token
    await bob.client.logout(clear_access_token=False)
    try:
        after = await bob.client.whoami()
    except MUnknownToken as error:
        after = error.errcode
    return {
        "left": [
            list(left) == [room_id],
            member.state_key,
            str(member.content.membership),
            member.content.reason,
        ],
        "after_logout": [after, bob.client.api.token == token],
        "still_in": (await alice.client.whoami()).user_id,
    }


if __name__ == "__main__":
    json.dump(asyncio.run(talk(json.load(sys.stdin))), sys.stdout)
