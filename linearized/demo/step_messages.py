"""Steps 4 and 5: B's user joins the room, and messages flow both ways, end-to-end encrypted."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linearized.client import DecryptedMessage, Joined
from linearized.demo.checks import milliseconds
from linearized.demo.homeserver import JsonObject, MatrixUser
from linearized.demo.participant import Participant, participant, provider_api
from linearized.demo.step_restart import rejoin, restart_servers
from linearized.demo.talk import hear, id_of, salt, say, type_in_matrix, unique
from linearized.demo.watcher import Watcher, watching
from linearized.demo.world import DORA_PASSWORD, World
from linearized.mimi.content import ExternalPart, delete, edit, reaction, reply, text
from linearized.protocol.identifiers import user_uri

ROUNDS = 15
DEVICE = "DORA"


async def messages(world: World) -> None:
    """Run steps 4 to 6 with B's user, and with a client of the homeserver that watches the room."""
    world.checks.step = "4 provider B"
    await world.b.service.start()
    alice = world.room.users["alice"]
    async with (
        provider_api(world.b.url, world.b.ca) as api,
        watching(alice, world.room.room_id) as watcher,
    ):
        login = await api.login(world.dora, DORA_PASSWORD, device_id=DEVICE)
        async with participant(api, login, world.directory / "dora.state") as dora:
            await _add(world, dora, alice)
            world.checks.step = "5 messages"
            await _to_mimi(world, dora, alice)
            await _to_matrix(world, dora, alice, watcher)
            await _many_to_matrix(world, dora, watcher)
        # The block's end is the end of dora's client; what follows begins with its state lost.
        async with participant(api, login, world.directory / "dora.new.state") as dora:
            await rejoin(world, dora, alice)
            await restart_servers(world, dora, alice, watcher)


async def _add(world: World, dora: Participant, alice: MatrixUser) -> None:
    """Alice invites dora's ghost; the bridge claims dora's key package through the hub and commits."""
    task = world.progress.add_task("4 B's user is added", total=1)
    began = time.monotonic()
    ghost = world.bridge.ghost(user_uri(world.dora))
    await alice.call("POST", f"/rooms/{world.room.room_id}/invite", body={"user_id": ghost})
    joined, at = await dora.wait_for(Joined, "a Welcome")
    world.checks.that("invited, joined by Welcome", joined.room_id == world.room_id, f"{at - began:.2f} s")
    device = dora.session.device
    owners = {owner.user_uri for owner in device.members(world.room_id).values()}
    listed = {pair.user for pair in device.participants(world.room_id).participants}
    bridged = {user_uri(user.user_id) for user in world.room.users.values()}
    world.checks.that(
        "homeserver users are participants", bridged <= listed, f"{len(bridged & listed)} of {len(bridged)}"
    )
    world.checks.that(
        "with an MLS client each", bridged <= owners, f"{len(bridged & owners)} of {len(bridged)}"
    )
    world.checks.note("epoch B's user joined in", joined.epoch)
    world.progress.update(task, completed=1)


async def _to_mimi(world: World, dora: Participant, alice: MatrixUser) -> None:
    """What is typed in the Matrix room is decrypted by B's client."""
    task = world.progress.add_task("5 messages from Matrix to B", total=ROUNDS)
    times = []
    senders = set()
    for number in range(ROUNDS):
        words = unique(world, f"From the Matrix room, number {number}:")
        began = time.monotonic()
        await type_in_matrix(world, alice, words)
        message, at = await hear(dora, words)
        times.append(at - began)
        senders.add(message.sender_uri)
        world.progress.update(task, advance=1)
    world.checks.note("typed in Matrix, decrypted at B", milliseconds(times))
    world.checks.equal("their sender, as MLS proves it", ", ".join(senders), user_uri(alice.user_id))
    await _image_to_mimi(world, dora, alice)


async def _image_to_mimi(world: World, dora: Participant, alice: MatrixUser) -> None:
    """A picture posted in the Matrix room reaches B as a reference to an encrypted file, with its key."""
    name = unique(world, "new picture")
    content = {
        "msgtype": "m.image",
        "body": name,
        "url": world.room.image_uri,
        "info": {"mimetype": "image/png"},
    }
    await alice.send(world.room.room_id, "m.room.message", content)

    def file_of(message: DecryptedMessage) -> ExternalPart | None:
        part = message.content.part
        return part if isinstance(part, ExternalPart) else None

    message, _ = await dora.wait_for(DecryptedMessage, "the picture", lambda item: file_of(item) is not None)
    part = file_of(message)
    if part is None:
        raise RuntimeError("it was one a moment ago")
    # B's user asks B, which asks A; the key came over MLS.
    server, media_id = part.url.split("/")[-2:]
    sealed = await dora.session.api.download_media(server, media_id)
    opened = AESGCM(part.key).decrypt(part.nonce, sealed, part.aad)
    world.checks.that(
        "a new picture's file, fetched through B", opened == world.room.image, f"{len(sealed)} bytes on A"
    )
    world.checks.that("and unreadable on A", world.room.image not in sealed, part.content_type)


async def _to_matrix(world: World, dora: Participant, alice: MatrixUser, watcher: Watcher) -> None:
    """B's reply, edit, reaction and redaction show up in the Matrix room as a ghost's."""
    task = world.progress.add_task("5 reply, edit, reaction, redaction from B", total=4)
    ghost = world.bridge.ghost(user_uri(world.dora))

    async def seen(what: str, relation: str | None = None, body: str | None = None) -> JsonObject:
        def fits(event: JsonObject) -> bool:
            content = event["content"]
            if event["sender"] != ghost or (body is not None and body not in content.get("body", "")):
                return False
            return relation is None or content.get("m.relates_to", {}).get("rel_type") == relation

        event, _ = await watcher.wait_for(what, fits)
        return event

    question = unique(world, "What does dora say?")
    asked = await type_in_matrix(world, alice, question)
    question_id = id_of((await hear(dora, question))[0])

    words = unique(world, "Dora replies")
    reply_id = await say(world, dora, reply(question_id, words, salt=salt()))
    replied = await seen("dora's reply", body=words)
    target = replied["content"].get("m.relates_to", {}).get("m.in_reply_to", {}).get("event_id")
    world.checks.equal("a ghost's reply is to", target, asked)
    world.progress.update(task, advance=1)

    words = unique(world, "Dora replies better")
    await say(world, dora, edit(reply_id, words, salt=salt(), in_reply_to=question_id))
    edited = await seen("dora's edit", relation="m.replace")
    world.checks.equal("its edit is of", edited["content"]["m.relates_to"]["event_id"], replied["event_id"])
    world.checks.equal("with the new text", edited["content"]["m.new_content"]["body"], words)
    world.progress.update(task, advance=1)

    await say(world, dora, reaction(question_id, "🎉", salt=salt()))
    liked = await seen("dora's reaction", relation="m.annotation")
    world.checks.equal("its reaction is to", liked["content"]["m.relates_to"]["event_id"], asked)
    world.progress.update(task, advance=1)

    words = unique(world, "Dora regrets")
    regret_id = await say(world, dora, text(words, salt=salt()))
    regretted = await seen("dora's message", body=words)
    await say(world, dora, delete(regret_id, salt=salt()))
    gone, _ = await watcher.wait_for("dora's redaction", lambda event: event["type"] == "m.room.redaction")
    world.checks.equal(
        "its redaction is of", gone["content"].get("redacts", gone.get("redacts")), regretted["event_id"]
    )
    world.progress.update(task, advance=1)


async def _many_to_matrix(world: World, dora: Participant, watcher: Watcher) -> None:
    task = world.progress.add_task("5 messages from B to Matrix", total=ROUNDS)
    times = []
    for number in range(ROUNDS):
        words = unique(world, f"From B, number {number}:")
        began = time.monotonic()
        await say(world, dora, text(words, salt=salt()))
        _, at = await watcher.wait_for_body(words)
        times.append(at - began)
        world.progress.update(task, advance=1)
    world.checks.note("sent at B, seen in Matrix", milliseconds(times))
