"""A device at work: following its rooms, sending, and changing groups.

One task iterates over ``items``; any task may send or change groups meanwhile. All of them share the
device's state, which only changes between two waits, and a sync answer is dropped if another one moved the
sync token first.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

import openmls
import trio

from linearized.client import files, oblivious
from linearized.client.api import ProviderApi
from linearized.client.archive.keeping import Keeper
from linearized.client.archive.session import Archive
from linearized.client.device import MlsDevice
from linearized.client.errors import (
    ApiError,
    ClientError,
    CommitRefused,
    JoinRefused,
    MalformedAnswer,
    WrongEpochError,
)
from linearized.client.following import ALGORITHM, Follower, Timeline, sequence, timelines, welcomes
from linearized.client.handshakes import Handshakes
from linearized.client.items import DecryptedMessage, Item, Joined
from linearized.client.key_packages import KEY_PACKAGE_TARGET, KeyPackageStock
from linearized.client.state import Outgoing
from linearized.client.tidying import Tidying
from linearized.client.transport import JsonObject
from linearized.exceptions import IdentifierError, LinearizedError, MimiDecodeError
from linearized.mimi.content import ExternalPart, MimiContent, check_expiry, message_id
from linearized.mimi.policy.choice import POLICY_CHOICE, chosen_policy
from linearized.mimi.pseudonyms import MINIMAL_METADATA
from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import room_uri, user_uri
from linearized.protocol.state import HUB, PARENT_ROOM

# How long the server may hold a sync; intermediaries drop idle connections after about a minute.
POLL_MS = 30_000
# A message is encrypted anew when a commit overtook it; more than this many in a row means something is
# wrong.
MAX_SEND_ATTEMPTS = 8
# How long to wait for a room or its next entry to reach our provider, each time.
ROOM_WAIT_MS = 2_000
_NOT_FOUND = 404
_FORBIDDEN = 403
_DRAW_BYTES = 8
# Pages of a gap fetched before giving the group up for lost and rejoining instead.
MAX_GAP_PAGES = 50
GAP_PAGE = 100
# Confirmed messages whose echo never came (a hub need not send a message back to its sender's provider).
MAX_OUTBOX = 64
# After a failed sync, the pause before the next.
RETRY_PAUSE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message the hub accepted: its event ID in the log and its 32-byte MIMI message ID."""

    event_id: str
    message_id: bytes


_NOTHING: Final[JsonObject] = {"types": []}
# Where a room is, and who has left it since; of all members' memberships a room of thousands has megabytes.
_FOLLOWED: Final[JsonObject] = {
    "presence": _NOTHING,
    "account_data": _NOTHING,
    "room": {
        "account_data": _NOTHING,
        "ephemeral": _NOTHING,
        "state": {"types": [HUB[0], "m.room.member"], "lazy_load_members": True},
    },
}


class Session:
    """An ``MlsDevice`` with a connection to its provider.

    Args:
        api: the device's (or, for an application service, the masqueraded device's) view of its provider.
        device: its state.
        key_packages: how many key packages to keep on the server, beside one of last resort.
        echoes: whether to keep what was sent until it is seen in the log, for ``OwnMessage`` items.
        wanted: which items there are to be; the others are dropped as they come. By default, all.
        random: gives as many random bytes as it is asked for, for the keys of archives and of files.
    """

    def __init__(
        self,
        api: ProviderApi,
        device: MlsDevice,
        *,
        key_packages: int = KEY_PACKAGE_TARGET,
        echoes: bool = True,
        wanted: Callable[[Item], bool] | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.api = api
        self.device = device
        self._stock = KeyPackageStock(api, device, key_packages)
        self._echoes = echoes
        self._random = random
        self._follower = Follower(device, Keeper(device, random=random), wanted=wanted)
        self.archive = Archive(api, device, random=random)
        self.groups = Handshakes(api, device, self.catch_up, self._wait)
        self._tidying = Tidying(device, clock=api.clock, draw=self._draw)
        self._tidying.look(device.state.rooms)

    # --- creating ---

    async def create_room(
        self,
        *,
        policy: object = None,
        parent: str | None = None,
        users: Sequence[str] = (),
        **body: Any,
    ) -> str:
        """Create an encrypted room and its group, and add users (user IDs) in the first commit.

        Args:
            policy: the MIMI room policy, as in ``linearized.mimi.policy.choice``; None for a room whose power
                levels decide alone.
            parent: the ID of the room that this one depends on: its participants are always among those of
                that, which has to have the same hub. Such a room has a policy.
            body: further members of the body of ``POST createRoom``.

        Returns:
            The room ID.

        Raises:
            ValueError: there is no such policy, or there is a parent and no policy.
            KeyMaterialUnavailable: a user has no key packages; the room has been created, its group not.
            ApiError, CommitRefused: the server refuses the room, or its group.
        """
        content = {"encryption": {"algorithm": ALGORITHM}, **body.pop("creation_content", {})}
        minimal = content.get(MINIMAL_METADATA) is True
        if parent is not None:
            if policy is None:
                raise ValueError("a room that depends on a parent room has a policy")
            content[PARENT_ROOM] = parent
        uris = () if parent is None else (room_uri(parent),)
        preset = None if policy is None else chosen_policy(policy, pseudonyms=minimal, parent=uris)
        choice = {} if policy is None else {POLICY_CHOICE: policy}
        room_id = await self.api.create_room(creation_content=content, **choice, **body)
        packages = {user_id: await self.groups.key_packages(room_id, user_id) for user_id in users}
        await self.groups.create(room_id, packages, policy=preset)
        return room_id

    # --- following ---

    async def items(self) -> AsyncGenerator[Item, None]:
        """Every item in order, for ever. An item counts as dealt with when the next one is asked for.

        A process killed in between sees the last item again, and only that one. Leave the iteration through
        ``contextlib.aclosing`` so that it ends at once.
        """
        while True:
            # Asked anew each time: another task's commit may have followed the log meanwhile.
            while self.device.state.inbox:
                item = self.device.state.inbox[0]
                yield item
                self.device.acknowledge(item)
            try:
                await self.tidy()
                await self.step(self._tidying.wait_ms(POLL_MS))
            except ClientError:
                # The provider is away or refuses for now; what matters is that we come back.
                await trio.sleep(RETRY_PAUSE)

    async def tidy(self) -> None:
        """Commit the removals, and what makes a new hub the group's hub, that this device has waited long
        enough for others to commit.
        """
        for room_id in self._tidying.due():
            self._tidying.put_off(room_id)
            try:
                await self.groups.commit_pending(room_id)
                await self.groups.renew_hub(room_id)
            except (LinearizedError, openmls.MlsError):
                # Nobody waits for it. Whoever commits next has to do it; and we try again.
                continue
            self._tidying.look([room_id])

    async def catch_up(self) -> None:
        """Follow until nothing new comes; the items wait for ``items``."""
        while await self.step(0):
            pass

    async def _wait(self) -> None:
        """Give the room's next entry a moment to reach our provider."""
        await self.step(ROOM_WAIT_MS)

    async def step(self, timeout_ms: int) -> bool:
        """One sync: fetch, process, save. Whether anything came.

        Raises:
            ClientError: as ``ProviderApi``; nothing was lost.
        """
        since = self.device.state.since
        answer = await self.api.sync(since=since, timeout_ms=timeout_ms, sync_filter=_FOLLOWED)
        token = answer.get("next_batch")
        if not isinstance(token, str):
            raise MalformedAnswer("the sync answer has no next_batch")
        joining = {welcome.room_id: welcome.commit_event_id for welcome in welcomes(answer)}
        found = [await self._complete(timeline, joining) for timeline in timelines(answer)]
        if self.device.state.since != since:
            return True  # another task's sync was faster; the server will not repeat what that one took
        waiting = len(self.device.state.inbox)
        self._follower.apply(answer, found, token)
        self._tidying.look(timeline.room_id for timeline in found)
        await self._after(answer, self.device.state.inbox[waiting:])
        return token != since and (since is None or bool(found) or bool(welcomes(answer)))

    async def _complete(self, timeline: Timeline, joining: Mapping[str, str | None]) -> Timeline:
        """Fill the gap of a limited timeline, as far back as the last entry processed, or, in a room that
        this device is new in, as the commit that its Welcome came with. (A follower's copy of a room begins
        after that.)

        Args:
            joining: by room ID, the commits of the Welcomes that came with the timeline.
        """
        room_id, record = timeline.room_id, self.device.record(timeline.room_id)
        last = record.last_seq
        member = room_id in joining or self.device.in_group(room_id)
        if not timeline.limited or not timeline.events or (last == 0 and not member):
            return timeline
        begins = joining.get(room_id, record.commit_event_id) if last == 0 else None
        events = list(timeline.events)
        token = timeline.prev_batch
        for _ in range(MAX_GAP_PAGES):
            first = sequence(events[0])
            if token is None or (first is not None and first <= last + 1):
                break
            if begins is not None and any(event.get("event_id") == begins for event in events):
                break
            page = await self.api.messages(timeline.room_id, start=token, direction="b", limit=GAP_PAGE)
            events[:0] = reversed(page.chunk)
            token = page.end if page.chunk else None
        return replace(timeline, events=events, limited=False)

    async def _after(self, answer: JsonObject, new: Sequence[Item]) -> None:
        if self._stock.heard(answer) or any(isinstance(item, Joined) for item in new):
            await self.upload_key_packages()
        for room_id, record in list(self.device.state.rooms.items()):
            if record.lost:
                await self._rejoin(room_id)
        try:
            await self.archive.flush()
        except ClientError:
            # What was followed is followed. The records wait for the next step.
            return

    async def _rejoin(self, room_id: str) -> None:
        try:
            await self.groups.join(room_id)
        except (LinearizedError, openmls.MlsError) as error:
            # Not allowed back, or not now. The record says lost, so the next sync tries again. But what we
            # are not in is forgotten if there is no way in: anybody with a key package of ours can make a
            # Welcome to whatever they call a room.
            shut = isinstance(error, ApiError) and error.status in {_FORBIDDEN, _NOT_FOUND}
            shut = shut or isinstance(error, JoinRefused | IdentifierError)
            if shut and not self.device.in_group(room_id):
                self.device.forget(room_id)

    def _draw(self) -> float:
        """A random number, at least 0 and below 1, from the same source as tokens."""
        return int.from_bytes(sha256(self.api.ids(_DRAW_BYTES).encode()).digest()[:_DRAW_BYTES]) / 2**64

    # --- certificates ---

    async def renew_certificates(self, certificates: Sequence[bytes]) -> None:
        """Have other certificates for the signature key of this device, before those it has expire: in new
        key packages, and by a commit in the group of each room. It may be called again with the same.

        Args:
            certificates: DER, the device's own first.

        Raises:
            IdentifierError: they are another client's, or for another key.
            openmls.NotAllowed: this device has no certificates.
            ClientError: the provider, or a hub, does not take them, or not now; this device has them all the
                same.
        """
        self.device.renew(certificates)
        # The stock was made with what this device had before, unless this is called again.
        if self.device.state.fallback_uploaded:
            await self.upload_key_packages()
        else:
            await self._stock.replace()
        for room_id in self.device.not_renewed():
            await self.groups.update_keys(room_id)

    # --- leaving ---

    async def leave(self, room_id: str) -> None:
        """Leave a room for good, with all of this user's clients.

        Raises:
            ClientError: as ``Handshakes.leave``; it may be called again.
        """
        proposed = False
        if self.device.in_group(room_id):
            try:
                await self.groups.leave(room_id)
                proposed = True
            except CommitRefused:
                # A room that takes commits only. The event says it, and the next commit removes us.
                proposed = False
        try:
            await self.api.leave(room_id)
        except ApiError as error:
            # With the proposals the hub wrote our leave, and it may be on its way to our provider still.
            if not proposed or error.status != _FORBIDDEN:
                raise

    async def upload_key_packages(self) -> None:
        """Bring the stock of key packages on the server up to its target, with one of last resort."""
        await self._stock.fill()

    # --- messages ---

    async def send(
        self, room_id: str, content: MimiContent, *, txn_id: str | None = None, ts: int | None = None
    ) -> Sent:
        """Encrypt and send a message; the same ``txn_id`` never sends twice, not even after a kill.

        Raises:
            NotInGroup: this device is not in the room's group.
            ValueError: the content has no encoding, or expires more than a year from now.
            ApiError: the hub refused the message.
            ServerUnreachable: no answer; send again with the same ``txn_id``.
        """
        content = self.device.prepare(room_id, content)
        payload = self.device.application_data(room_id, content)
        try:
            check_expiry(content, accepted_ms=self.api.clock() if ts is None else ts)
        except MimiDecodeError as error:  # what receivers would not take
            raise ValueError(str(error)) from error
        key = txn_id or self.api.transaction_id()
        refusal: ApiError = WrongEpochError(409, "M_WRONG_EPOCH", "the room's epoch kept changing", None)
        for _ in range(MAX_SEND_ATTEMPTS):
            if key not in self.device.state.outbox and self.device.in_group(room_id):
                await self.groups.commit_pending(room_id)
            message = self.device.encrypt(room_id, payload, txn_id=key)
            body = {
                "algorithm": ALGORITHM,
                "ciphertext": encode_base64(message.ciphertext),
                "commit_event_id": self.device.record(room_id).commit_event_id or "",
            }
            try:
                event_id = await self.api.send_event(room_id, "m.room.encrypted", body, txn_id=key, ts=ts)
            except WrongEpochError:
                # A commit came first. Follow it, then encrypt for the epoch it began.
                self.device.unsend(key)
                before = self.device.epoch(room_id)
                await self.catch_up()
                if self.device.state_epoch(room_id) == before:
                    await self._wait()  # it is on its way from the hub to our provider
                continue
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
                # We are in the group already, by a Welcome that overtook the room's copy on its way to our
                # provider.
                refusal = error
                await self._wait()
                continue
            self._confirm(key, message)
            return Sent(event_id=event_id, message_id=self.message_id(room_id, content))
        raise refusal

    async def download(self, room_id: str, url: str) -> bytes:
        """The file at ``url``, as a message of the room names it, so that neither our provider nor the hub
        knows both who asks and for what; still sealed, if it was.

        Raises:
            ObliviousUnavailable, AssetUnavailable, UntrustedAnswer, ApiError, ServerUnreachable: as
                ``oblivious.download``.
        """
        return await oblivious.download(self.api, self.device, room_id, url)

    async def fetch_file(self, room_id: str, part: ExternalPart) -> bytes:
        """The file that a message of the room refers to, opened: as ``download``, or of our own provider
        where that is the hub.

        Raises:
            MimiDecodeError: what is there is not what the message refers to.
            AssetUnavailable: its time is over (410), or the hub does not give it.
            ObliviousUnavailable, UntrustedAnswer, ApiError, ServerUnreachable: as ``download``.
        """
        return await files.fetch(self.api, self.device, room_id, part)

    async def upload_file(
        self, data: bytes, *, content_type: str, filename: str = "", description: str = ""
    ) -> ExternalPart:
        """Seal a file and put it at our provider; the part to send.

        Raises:
            ApiError, ServerUnreachable: it was not taken.
        """
        return await files.upload(
            self.api,
            data,
            content_type=content_type,
            filename=filename,
            description=description,
            random=self._random,
        )

    async def report(self, message: DecryptedMessage, *, reason: str = "") -> None:
        """Report a message: to the hub of its room, if it is franked, else to our own provider's operator.

        Raises:
            ApiError: it was not taken.
        """
        content = message.payload if message.frank is not None else None
        await self.api.report(message.room_id, message.event_id, reason=reason, content=content)

    def message_id(self, room_id: str, content: MimiContent) -> bytes:
        """The MIMI message ID that ``content`` has when this device's user sends it to the room."""
        content = self.device.prepare(room_id, content)
        return message_id(content, sender_uri=user_uri(self.device.owner.user_id), room_uri=room_uri(room_id))

    def _confirm(self, key: str, message: Outgoing) -> None:
        """Forget the oldest confirmed messages whose echo never came."""
        outbox = self.device.state.outbox
        if not self._echoes:
            outbox.pop(key, None)
        elif key in outbox:
            outbox[key] = message.confirmed()
        extra = len(outbox) - MAX_OUTBOX
        if extra > 0:
            for old in [name for name, sent in outbox.items() if sent.sent][:extra]:
                del outbox[old]
