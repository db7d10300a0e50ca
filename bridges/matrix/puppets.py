"""The MLS clients the bridge runs: one for its bot, and one for each of the homeserver's users."""

from __future__ import annotations

from bridges.matrix.database import Database, DeviceStorage
from linearized.client import MlsDevice, ProviderApi, Session

# The device of every client the bridge runs: mimi://matrix.example/d/alice/BRIDGE.
DEVICE = "BRIDGE"
# A bridged user is added to rooms now and then; the package of last resort covers a burst.
USER_KEY_PACKAGES = 3
BOT_KEY_PACKAGES = 10


class Puppets:
    """Sessions by user ID, made when first needed and kept."""

    def __init__(self, api: ProviderApi, database: Database, *, bot: str) -> None:
        self._api = api
        self._database = database
        self._bot = bot
        self._sessions: dict[str, Session] = {}

    @property
    def bot(self) -> Session:
        """The bot's session."""
        return self.session(self._bot)

    def session(self, user_id: str) -> Session:
        """The session of a user's client."""
        found = self._sessions.get(user_id)
        if found is None:
            device = MlsDevice.open(DeviceStorage(self._database, user_id), user_id=user_id, device_id=DEVICE)
            packages = BOT_KEY_PACKAGES if user_id == self._bot else USER_KEY_PACKAGES
            api = self._api.as_user(user_id, DEVICE)
            found = Session(api, device, key_packages=packages, echoes=False)
            self._sessions[user_id] = found
        return found

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
