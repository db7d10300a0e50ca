"""A room on both sides, what is done in it, and what comes of it on the other side.

Rows of a table say who says what, and what the other side has to see of it. Contents name events by the row
that made them, ``"{row}"``, and files by their name, ``"file:name"``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridges.matrix.ciphers import FileOpener, FileSealer, PartOpener, whole
from bridges.matrix.media import download_url
from linearized.client import DecryptedMessage, Joined
from linearized.demo.participant import Participant
from linearized.mimi.content import (
    AES_128_GCM,
    AnyDisposition,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    SinglePart,
)
from linearized.protocol.identifiers import room_uri, user_id_from_uri
from tests.homeserver.people import PATIENCE, Crowd, Eyes, JsonObject, heard
from tests.homeserver.stage import Stage

# Of MIMI's registry: what our content has in every message, and what the tables leave out.
_OWN_EXTENSIONS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Says:
    """Somebody in Matrix sends this, and b.example sees ``seen`` (nothing if ``None``)."""

    name: str
    content: JsonObject
    type: str = "m.room.message"
    seen: JsonObject | None
    # The row whose author this is, too; by default anybody.
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class Writes:
    """Somebody at b.example sends what ``make`` gives, and Matrix sees ``seen``, an event for each."""

    name: str
    make: Callable[[Room], MimiContent]
    seen: Sequence[JsonObject]
    by: str = ""


Row = Says | Writes


@dataclass(kw_only=True)
class File:
    """A file, and where it is: at the homeserver in plaintext, and at b.example."""

    data: bytes
    type: str


@dataclass(kw_only=True)
class Room:
    """One room: its two IDs, and the names of what was said in it."""

    stage: Stage
    crowd: Crowd
    eyes: Eyes
    people: Mapping[str, Participant]
    matrix_id: str
    room_id: str
    files: Mapping[str, File]
    members: Sequence[str] = ()
    # By row: event IDs in Matrix, IDs of messages, and who said it.
    events: dict[str, str] = field(default_factory=dict)
    messages: dict[str, bytes] = field(default_factory=dict)
    authors: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, ExternalPart] = field(default_factory=dict)
    # What has to arrive, in order: at b.example, and in Matrix.
    due_there: list[tuple[str, JsonObject]] = field(default_factory=list)
    due_here: list[tuple[str, JsonObject]] = field(default_factory=list)

    # --- what arrived ---

    def there(self, person: Participant) -> list[DecryptedMessage]:
        """What somebody at b.example got of what was said in Matrix."""
        said = [item for item in person.messages if item.room_id == self.room_id]
        return [item for item in said if item.sender_uri.startswith(f"mimi://{self.stage.domain}/")]

    def here(self) -> list[JsonObject]:
        """What the ghosts said in Matrix."""
        said = [event for event in self.eyes.events[self.matrix_id] if "state_key" not in event]
        return [event for event in said if event["sender"].startswith("@_lin_") and not self._is_bots(event)]

    def _is_bots(self, event: JsonObject) -> bool:
        return bool(event["sender"] == self.stage.bot)

    def _note(self) -> None:
        """Name what arrived by its place: what is out of order gets a wrong name, and then differs."""
        witness = next(iter(self.people.values()))
        for (name, _), item in zip(self.due_there, self.there(witness), strict=False):
            self.messages.setdefault(name, item.message_id)
        for (name, _), event in zip(self.due_here, self.here(), strict=False):
            self.events.setdefault(name, event["event_id"])

    async def settled(self) -> None:
        """Wait until everything that is due has arrived on both sides."""
        for person in self.people.values():
            await heard(
                person,
                f"{len(self.due_there)} messages",
                partial(self._is_there, person),
            )
        await self.eyes.until(f"{len(self.due_here)} events", lambda: len(self.here()) >= len(self.due_here))
        self._note()

    def _is_there(self, person: Participant, _: object) -> bool:
        return len(self.there(person)) >= len(self.due_there)

    # --- doing ---

    async def play(self, row: Row, author: str) -> None:
        """Do what a row says; ``author`` does it, unless the row says who."""
        author = self.authors[row.name] = self.authors[row.by] if row.by else author
        if isinstance(row, Says):
            if row.type == "m.room.redaction" and (name := row.content["redacts"][1:-1]) not in self.messages:
                await self._arrived(name)  # of what is redacted at once nobody sees anything
            content = await self._filled(row.content)
            self.events[row.name] = await self.crowd.send(author, self.matrix_id, row.type, content)
            if row.seen is not None:
                self.due_there.append((row.name, row.seen))
            return
        # The message's parts may need what has not come yet.
        while True:
            try:
                content = row.make(self)
            except KeyError as missing:
                await self._arrived(str(missing.args[0]))
            else:
                break
        sent = await self.people[author].session.send(self.room_id, content)
        self.messages[row.name] = sent.message_id
        for number, seen in enumerate(row.seen):
            self.due_here.append((f"{row.name} {number}" if number else row.name, seen))

    def seen(self, name: str) -> bytes:
        """The ID of a message that is in Matrix by now: what is redacted at once, nobody sees.

        Raises:
            KeyError: it is not.
        """
        if name not in self.events:
            raise KeyError(name)
        return self.messages[name]

    async def _arrived(self, name: str) -> None:
        """Wait for what a row of the other side made."""
        assert any(name == row for row, _ in [*self.due_here, *self.due_there]), f"no row {name}"
        await self.settled()

    async def _filled(self, value: Any) -> Any:
        """A content with IDs of events in place of the names of rows, and files uploaded."""
        if isinstance(value, dict):
            if str(value.get("url", "")).startswith("file:"):
                rest = {name: item for name, item in value.items() if name != "url"}
                return {**await self._filled(rest), **await self._uploaded(value["url"][5:])}
            return {name: await self._filled(item) for name, item in value.items()}
        if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
            if value[1:-1] not in self.events:
                await self._arrived(value[1:-1])
            return self.events[value[1:-1]]
        return value

    async def _uploaded(self, name: str) -> JsonObject:
        user, file = next(iter(self.crowd.users.values())), self.files[name]
        if self.matrix_id not in self.crowd.encrypted:
            return {"url": await user.upload(file.data, file.type, name)}
        sealer = FileSealer(secrets.token_bytes)
        url = await user.upload(whole(sealer, file.data), "application/octet-stream", "file")
        return {"file": {**sealer.file, "url": url}}

    # --- comparing ---

    async def check(self) -> None:
        """Everything arrived once, in order, and is what the tables say."""
        await self.settled()
        self._note()
        for person in self.people.values():
            items = self.there(person)
            found = [await self._message(item, person) for item in items]
            _compare([self._due_there(name, seen) for name, seen in self.due_there], found)
            times = {self.messages[name]: self._time(name) for name, _ in self.due_there}
            assert [item.timestamp for item in items] == [times[item.message_id] for item in items]
        found = [await self._event(event) for event in self.here()]
        _compare([self._due_here(name, seen) for name, seen in self.due_here], found)

    def _time(self, name: str) -> int:
        (event,) = [
            event for event in self.eyes.events[self.matrix_id] if event["event_id"] == self.events[name]
        ]
        return int(event["origin_server_ts"])

    def _due_there(self, name: str, seen: JsonObject) -> JsonObject:
        author = self.crowd.users[self.authors[name]].user_id
        return {"name": name, "from": author, "extensions": {}, **seen}

    def _due_here(self, name: str, seen: JsonObject) -> JsonObject:
        author = self.stage.ghost(self.authors[name.partition(" ")[0]])
        return {"name": name, "from": author, "type": "m.room.message", **seen}

    async def _message(self, item: DecryptedMessage, person: Participant) -> JsonObject:
        content, names = item.content, {found: name for name, found in self.messages.items()}
        found: JsonObject = {
            "name": names.get(item.message_id, "unknown"),
            "from": user_id_from_uri(item.sender_uri),
            "part": await self._part(content.part, person),
            "extensions": {
                name: _without_room(value, room_uri(self.room_id))
                for name, value in content.extensions.items()
                if name not in _OWN_EXTENSIONS
            },
        }
        assert content.sender_uri == item.sender_uri
        assert content.room_uri == room_uri(self.room_id)
        references = {
            "re": content.in_reply_to,
            "replaces": content.replaces,
            "topic": content.topic_id or None,
        }
        return found | {
            key: names.get(target, "unknown") for key, target in references.items() if target is not None
        }

    async def _part(self, part: Part, person: Participant) -> Any:
        match part:
            case NullPart():
                return None
            case SinglePart():
                shown: list[Any] = [part.content_type, part.content.decode()]
                disposition = _name(part.disposition)
                return shown if disposition == "RENDER" else [*shown, disposition]
            case MultiPart():
                return {part.semantics.name: [await self._part(one, person) for one in part.parts]}
            case ExternalPart():
                server, media_id = part.url.split("/")[-2:]
                data = whole(PartOpener(part), await person.session.api.download_media(server, media_id))
                return {
                    "file": self.name_of(data),
                    "type": part.content_type,
                    "filename": part.filename,
                    "description": part.description,
                    "disposition": _name(part.disposition),
                    "size": part.size,
                }

    def name_of(self, data: bytes) -> str:
        """What a file is called in the tables."""
        (name,) = [name for name, file in self.files.items() if file.data == data] or ["unknown"]
        return name

    async def _event(self, event: JsonObject) -> JsonObject:
        names: dict[str, str] = {}
        for name, found in self.events.items():
            names.setdefault(found, name)
        content = await self._named(event["content"], names)
        if event["type"] == "m.room.redaction":
            content = {"redacts": content["redacts"]}
        (name,) = [name for name, found in self.events.items() if found == event["event_id"]] or ["unknown"]
        return {"name": name, "from": event["sender"], "type": event["type"], "content": content}

    async def _named(self, value: Any, names: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("url"), str) and "key" not in value:
                return {**value, "url": await self._downloaded(value["url"], None)}
            if isinstance(value.get("file"), dict):
                rest = {
                    name: await self._named(item, names) for name, item in value.items() if name != "file"
                }
                return {**rest, "url": await self._downloaded(value["file"]["url"], value["file"])}
            return {name: await self._named(item, names) for name, item in value.items()}
        if isinstance(value, str) and value.startswith("$"):
            return "{" + names.get(value, "unknown") + "}"
        return value

    async def _downloaded(self, mxc: str, encrypted: JsonObject | None) -> str:
        data = await self.crowd.download(mxc)
        return f"file:{self.name_of(data if encrypted is None else whole(FileOpener(encrypted), data))}"


async def share(person: Participant, files: Mapping[str, File]) -> dict[str, ExternalPart]:
    """Upload files at b.example, encrypted as the draft says; the parts lack what a message says of them."""
    found = {}
    for name, file in files.items():
        key, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        sealed = AESGCM(key).encrypt(nonce, file.data, b"")
        mxc = await person.session.api.upload_media(sealed, content_type="application/octet-stream")
        found[name] = ExternalPart(
            content_type="application/octet-stream",
            url=download_url(mxc),
            enc_alg=AES_128_GCM,
            key=key,
            nonce=nonce,
            content_hash=sha256(sealed).digest(),
        )
    return found


async def bridged_room(
    stage: Stage,
    crowd: Crowd,
    eyes: Eyes,
    people: Mapping[str, Participant],
    *,
    members: Sequence[str],
    encrypted: bool = False,
    **creation: Any,
) -> Room:
    """A room of ``members``, the first of whom makes it, bridged and with everybody of b.example inside."""
    owner = crowd.users[members[0]]
    invited = [crowd.users[name].user_id for name in members[1:]]
    body: JsonObject = {"preset": "private_chat", "invite": invited, **creation}
    if encrypted:
        algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
        body["initial_state"] = [{"type": "m.room.encryption", "content": algorithm}]
    room_id = (await owner.call("POST", "/createRoom", body=body))["room_id"]
    if encrypted:
        crowd.encrypted.add(room_id)
    for name in members[1:]:
        await crowd.users[name].call("POST", f"/join/{room_id}", body={})
    await owner.call("POST", f"/rooms/{room_id}/invite", body={"user_id": stage.bot})
    await eyes.until(
        f"that {room_id} is bridged",
        lambda: any(
            event["sender"] == stage.bot and "state_key" not in event for event in eyes.events[room_id]
        ),
    )
    known = {item.room_id for person in people.values() for item in person.items}
    for name in people:
        await owner.call("POST", f"/rooms/{room_id}/invite", body={"user_id": stage.ghost(name)})
    (there,) = {await _joined(person, known) for person in people.values()}
    return Room(
        stage=stage,
        crowd=crowd,
        eyes=eyes,
        people=people,
        matrix_id=room_id,
        room_id=there,
        files={},
        members=members,
    )


async def _joined(person: Participant, known: set[str]) -> str:
    """The room somebody was brought into, that is not one of those."""
    with trio.move_on_after(PATIENCE):
        while True:
            for item in person.items:
                if isinstance(item, Joined) and item.room_id not in known:
                    return item.room_id
            await person.news()
    raise AssertionError(f"{person.login.user_id} was not brought into a room")


def _name(disposition: AnyDisposition) -> str:
    return disposition.name if isinstance(disposition, Disposition) else str(disposition)


def _without_room(value: Any, room: str) -> Any:
    """An extension's value with ``ROOM`` for the room's URI, which is new in each run."""
    if isinstance(value, tuple):
        return tuple("ROOM" if one == room else one for one in value)
    return value


def _compare(wanted: list[JsonObject], found: list[JsonObject]) -> None:
    """One by one first: what differs is easier to read in one message than in a hundred."""
    for number, (due, got) in enumerate(zip(wanted, found, strict=False)):
        assert got == due, f"number {number}: {got}, and not {due}"
    assert [one["name"] for one in found] == [one["name"] for one in wanted]
