"""The MLS clients the bridge runs: one for its bot, and one for each of the homeserver's users."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from bridges.matrix.database import Database
from bridges.matrix.device_states import DeviceStorage, unsealed_states
from bridges.matrix.provenance import came_from
from linearized.client import BRIDGED_CLIENT, BridgedClient, MlsDevice, ProviderApi, SealedStorage, Session

# The device of every client the bridge runs: mimi://matrix.example/d/alice/BRIDGE.
DEVICE = "BRIDGE"
# A bridged user is added to rooms now and then; the package of last resort covers a burst.
USER_KEY_PACKAGES = 3
BOT_KEY_PACKAGES = 10
# Clients kept open beside the bot's. Each holds the trees of its groups, a megabyte for a room of a thousand;
# the others are in the database, a few milliseconds away.
OPEN_CLIENTS = 32
# What every leaf of theirs says to all in the group: the user's end of the encryption is a bridge.
_LABEL = {BRIDGED_CLIENT: BridgedClient(protocol="matrix").encode()}


class Puppets:
    """Sessions by user ID, opened when first needed.

    There is never a second session of a user while one is in use: two would continue from one MLS state.

    Args:
        domain: the homeserver's. Of its own doings, which the log has from us, the clients hand out none.
    """

    def __init__(
        self,
        api: ProviderApi,
        database: Database,
        *,
        bot: str,
        domain: str,
        key: bytes,
        random: Callable[[int], bytes],
    ) -> None:
        self._domain = domain
        self._key = key
        self._random = random
        self._api = api
        self._database = database
        self._bot = bot
        # Every session that anybody holds, and those that are held only because they may be needed again.
        self._sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._recent: OrderedDict[str, Session] = OrderedDict()
        self._of_bot: Session | None = None

    @property
    def bot(self) -> Session:
        """The bot's session, which stays open."""
        if self._of_bot is None:
            self._of_bot = self._open(self._bot)
        return self._of_bot

    def session(self, user_id: str) -> Session:
        """The session of a user's client."""
        if user_id == self._bot:
            return self.bot
        found = self._sessions.get(user_id)
        if found is None:
            found = self._sessions[user_id] = self._open(user_id)
        self._recent[user_id] = found
        self._recent.move_to_end(user_id)
        if len(self._recent) > OPEN_CLIENTS:
            self._recent.popitem(last=False)
        return found

    def put_away(self, user_id: str) -> None:
        """Do not keep a user's session open for now, unless somebody holds it."""
        self._recent.pop(user_id, None)

    def _open(self, user_id: str) -> Session:
        device = MlsDevice.open(
            self._storage(user_id), user_id=user_id, device_id=DEVICE, leaf_app_data=_LABEL
        )
        packages = BOT_KEY_PACKAGES if user_id == self._bot else USER_KEY_PACKAGES
        return Session(
            self._api.as_user(user_id, DEVICE),
            device,
            key_packages=packages,
            echoes=False,
            wanted=lambda item: not came_from(item, self._domain),
        )

    def _storage(self, user_id: str) -> SealedStorage:
        kept = DeviceStorage(self._database, user_id)
        return SealedStorage(kept, key=self._key, owner=user_id, random=self._random)

    def seal(self) -> None:
        """Encrypt the states that an older version of the bridge wrote in the clear."""
        with self._database.together():
            for user_id in unsealed_states(self._database):
                storage = self._storage(user_id)
                storage.save(storage.load() or b"")

    async def ready(self, user_id: str) -> Session:
        """The session of a user's client that can be added to rooms: it has key packages at the provider."""
        session = self.session(user_id)
        if not session.device.state.fallback_uploaded:
            await session.upload_key_packages()
        return session

    async def follow(self, user_id: str) -> Session:
        """Let a user's client catch up; what it reads there the bot has read too, so its items are
        dropped.
        """
        session = await self.ready(user_id)
        await session.catch_up()
        session.device.clear_inbox()
        return session
