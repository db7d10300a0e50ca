"""Changing groups: the commit loop, and the claims that go before it (draft-ietf-mimi-protocol-06).

A commit is sent to the hub and takes effect only when the hub has taken it. If another one was first, its
turn comes after following that one. If the answer is lost, the same commit is sent again, or found in the
log: it is kept until one of the two has decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import openmls
import trio

from linearized.client.api import ProviderApi
from linearized.client.changes import NO_ROLES, change_of
from linearized.client.device import CIPHERSUITE, Change, MlsDevice
from linearized.client.errors import CommitLost, CommitRefused, LacksSupport, UntrustedAnswer
from linearized.client.franks import agent_of
from linearized.client.group_requests import (
    group_info_request,
    key_material_request,
    open_group_info,
    packages_in,
)
from linearized.client.metadata_policies import check_before_joining
from linearized.client.pending import is_leaving
from linearized.client.state import PendingCommit
from linearized.mimi.group_info import GroupInfoResponse
from linearized.mimi.handshake import UpdateResponseCode, UpdateRoomResponse
from linearized.mimi.key_material import KeyMaterialResponse
from linearized.mimi.media_types import unmet
from linearized.mimi.metadata_policy import RequiredPolicy
from linearized.mimi.policy.presets import Preset
from linearized.protocol.identifiers import room_domain

# Every attempt lost means another commit won; more in a row than this and the caller should hear of it.
MAX_COMMIT_ATTEMPTS = 10


class Handshakes:
    """Commits of one device, one after another.

    ``catch_up`` follows the log until nothing new comes, ``wait`` a moment for the next that comes; the
    session provides both.
    """

    def __init__(
        self,
        api: ProviderApi,
        device: MlsDevice,
        catch_up: Callable[[], Awaitable[None]],
        wait: Callable[[], Awaitable[None]],
    ) -> None:
        self._api = api
        self._device = device
        self._catch_up = catch_up
        self._wait = wait
        self._lock = trio.Lock()

    # --- what a user does ---

    async def create(
        self,
        room_id: str,
        users: Mapping[str, Sequence[bytes]] | None = None,
        *,
        roles: Mapping[str, int] = NO_ROLES,
        external_senders: Sequence[tuple[bytes, bytes]] = (),
        policy: Preset | None = None,
    ) -> str | None:
        """Make the room's group; its first commit, which tells the hub, adds ``users`` (user ID to
        KeyPackages). The hub is among its external senders if our provider is the hub.

        ``policy`` is the MIMI room policy; it must be the one that the room was created with (see
        ``linearized.mimi.policy.choice``), None if it was with none.

        Returns the commit's event ID. After a kill, calling it again continues.

        Raises:
            CommitRefused: the hub takes no group for this room.
            FrankError: the provider gives another one's franking agent.
        """
        async with self._lock:
            if not self._device.in_group(room_id):
                # "That extension MUST contain at least the Certificate of the Hub" (Authenticating
                # proposals).
                hub = await self._api.hub_sender(room_id)
                senders = [*external_senders] if hub is None else [hub, *external_senders]
                agent = (await self._api.franking_agents()).get(CIPHERSUITE)
                if agent is not None:
                    agent_of(agent, room_domain(room_id))
                self._device.create_group(
                    room_id, external_senders=senders, policy=policy, franking_agent=agent
                )
            await self._settle(room_id)
            known = self._device.epoch(room_id) > 0
            initial = None if known else self._device.group(room_id).group_info()
            change = change_of(
                self._device, room_id, clock=self._api.clock, add=users or {}, roles=roles, always=not known
            )
            return await self._commit(room_id, change, initial=initial)

    async def add_users(
        self, room_id: str, users: Mapping[str, Sequence[bytes]], *, roles: Mapping[str, int] = NO_ROLES
    ) -> str | None:
        """Add clients (KeyPackages by user ID); users who are no participants yet become some.

        ``roles`` are role indices by user ID; who is not in there becomes a regular participant, or in a room
        with a policy gets the lowest role that this user may give. A role
        above or below what a user's power level says changes the power level.

        Returns the event ID of the commit that began the current epoch; if there is nothing to do, nothing
        is sent.

        Raises:
            LacksSupport: a client does not say that it has what the group asks of its members.
            MimiDecodeError: what it says of that cannot be read.
            CommitRefused, CommitLost, NotInGroup, ApiError, ServerUnreachable: nobody was added, except
                that after ``ServerUnreachable`` it is not known; the next commit or sync finds out.
        """
        async with self._lock:
            self._check_support(room_id, users)
            return await self._commit(
                room_id, change_of(self._device, room_id, clock=self._api.clock, add=users, roles=roles)
            )

    def _check_support(self, room_id: str, users: Mapping[str, Sequence[bytes]]) -> None:
        app_data, now = self._device.group(room_id).app_data(), self._api.clock() // 1000
        if not unmet(app_data, {}):  # groups of ours ask for nothing
            return
        for user_id, packages in users.items():
            for package in packages:
                missing = unmet(app_data, openmls.inspect_key_package(package, now=now).leaf_app_data)
                if missing:
                    raise LacksSupport(user_id, missing)

    async def remove_users(self, room_id: str, user_ids: Sequence[str]) -> str | None:
        """Remove users with all their clients; raises as ``add_users``."""
        async with self._lock:
            return await self._commit(
                room_id, change_of(self._device, room_id, clock=self._api.clock, remove=user_ids)
            )

    async def set_roles(self, room_id: str, roles: Mapping[str, int]) -> str | None:
        """Give participants other roles (role indices by user ID); who is none, or has the role, is passed
        over. Raises as ``add_users``.
        """
        async with self._lock:
            return await self._commit(
                room_id, change_of(self._device, room_id, clock=self._api.clock, moved=roles)
            )

    async def update_keys(self, room_id: str) -> str | None:
        """Commit fresh keys of this device and whatever proposals are pending; raises as ``add_users``."""
        async with self._lock:
            return await self._commit(
                room_id, change_of(self._device, room_id, clock=self._api.clock, always=True)
            )

    async def commit_pending(self, room_id: str) -> None:
        """Commit the proposals that are pending, if there are any and this device is not leaving itself;
        raises as ``add_users``.
        """
        async with self._lock:
            group = self._device.group(room_id)
            if self._device.pending(room_id) and not is_leaving(group):
                await self._commit(
                    room_id, change_of(self._device, room_id, clock=self._api.clock, always=True)
                )

    async def renew_hub(self, room_id: str) -> None:
        """If the room has moved to our provider, commit its franking agent and its external sender in the
        place of those of the hub before; raises as ``add_users``.

        Raises:
            FrankError: the provider gives another one's franking agent.
            UntrustedAnswer: it gives another one's external sender.
        """
        async with self._lock:
            device, group = self._device, self._device.group(room_id)
            if is_leaving(group):
                return
            agent = sender = None
            if device.needs_agent(room_id):
                agent = (await self._api.franking_agents()).get(group.ciphersuite)
                if agent is not None:
                    agent_of(agent, device.hub(room_id))
            if device.needs_sender(room_id):
                sender = await self._api.hub_sender(room_id)
                if sender is not None and sender[1] != f"mimi://{device.hub(room_id)}".encode():
                    raise UntrustedAnswer("the provider gives another one's external sender")
            if agent is not None or sender is not None:
                await self._commit(
                    room_id,
                    change_of(self._device, room_id, clock=self._api.clock, agent=agent, hub_sender=sender),
                )

    async def leave(self, room_id: str) -> str | None:
        """Propose to the hub that this user leaves with all their clients; the proposals' event ID, if our
        provider is the hub.

        The hub takes no more messages of this user from then on; the clients are out of the group with the
        next commit. After a kill or a lost answer, calling it again continues.

        Raises:
            CommitRefused: the hub does not take them.
            CommitLost, NotInGroup, ApiError, ServerUnreachable: as ``add_users``.
        """
        async with self._lock:
            await self._settle(room_id)
            for _ in range(MAX_COMMIT_ATTEMPTS):
                if is_leaving(self._device.group(room_id)) and self._device.record(room_id).leaving is None:
                    return None  # the hub knows
                bundle = self._device.propose_leave(room_id)
                raw, event_id = await self._api.update(room_id, bundle, initial_group=None)
                response = UpdateRoomResponse.decode(raw)
                if response.code is UpdateResponseCode.SUCCESS:
                    self._device.left(room_id)
                    return event_id
                before = self._device.state_epoch(room_id)
                await self._catch_up()
                if self._device.state_epoch(room_id) == before:
                    self._device.withdraw_leave(room_id)
                    raise CommitRefused(int(response.code), response.description)
            raise CommitLost(f"could not leave {room_id}")

    async def key_packages(self, room_id: str, user_id: str) -> list[bytes]:
        """Claim one key package for each client of a user, through the room's hub.

        Raises:
            KeyMaterialUnavailable: there are none.
            UntrustedAnswer: one is not that user's.
        """
        request = key_material_request(self._device, room_id, user_id)
        response = KeyMaterialResponse.decode(await self._api.key_material(room_id, request.encode()))
        return packages_in(response, user_id, now=self._api.clock() // 1000)

    async def invite(
        self, room_id: str, user_ids: Sequence[str], *, roles: Mapping[str, int] = NO_ROLES
    ) -> str | None:
        """Claim key packages of users and add them all in one commit; raises as the two steps."""
        users = {user_id: await self.key_packages(room_id, user_id) for user_id in user_ids}
        return await self.add_users(room_id, users, roles=roles)

    async def join(
        self,
        room_id: str,
        *,
        required: RequiredPolicy | None = None,
        code: str | None = None,
        via: Sequence[str] = (),
    ) -> str | None:
        """Join, or rejoin, by external commit; a leaf this client had before is replaced. Returns the
        event ID.

        The user must be joined to the room already, or have a joining code.

        Args:
            code: a joining code of the room.
            via: with a code, servers in the room: one of them shows where it is if its first hub is gone.
            required: what the hub and the room have to keep to; without it nobody is asked.

        Raises:
            JoinRefused: the hub gives no group information.
            MetadataPolicyError, UntrustedAnswer: as ``check_before_joining``; nothing was joined.
            CommitRefused, CommitLost, ApiError, ServerUnreachable: as ``add_users``.
        """
        async with self._lock:
            for _ in range(MAX_COMMIT_ATTEMPTS):
                pending = await self._external(room_id, required, code, via)
                done, event_id = await self._submit(room_id, pending)
                if done:
                    return event_id
            raise CommitLost(f"could not join {room_id}")

    # --- the loop ---

    async def _commit(
        self, room_id: str, change: Change, *, initial: tuple[bytes, bytes] | None = None
    ) -> str | None:
        await self._settle(room_id)
        for _ in range(MAX_COMMIT_ATTEMPTS):
            pending = self._device.stage(room_id, change, initial=initial)
            if pending is None:
                return self._device.record(room_id).commit_event_id
            done, event_id = await self._submit(room_id, pending)
            if done:
                return event_id
        raise CommitLost(f"could not commit in {room_id}")

    async def _settle(self, room_id: str) -> None:
        """Decide about a commit left from before a kill or a lost answer, by sending it again."""
        pending = self._device.record(room_id).pending
        if pending is not None:
            await self._submit(room_id, pending)

    async def _submit(self, room_id: str, pending: PendingCommit) -> tuple[bool, str | None]:
        """Send a commit. (True, event ID) when it took effect, (False, None) when another one was first."""
        raw, event_id = await self._api.update(room_id, pending.bundle, initial_group=pending.initial_group)
        response = UpdateRoomResponse.decode(raw)
        if response.code is UpdateResponseCode.SUCCESS:
            self._device.commit_accepted(room_id, pending, event_id)
            return True, event_id
        # The epoch may have passed, by somebody's commit or by this very one if its first answer was lost;
        # and then a hub may find other faults with it first. The log decides.
        before, known = self._device.state_epoch(room_id), self._device.pending(room_id)
        await self._catch_up()
        record = self._device.record(room_id)
        if record.merged == pending.digest:
            return True, record.commit_event_id
        self._device.discard_commit(room_id, pending)
        moved = self._device.state_epoch(room_id) != before
        if response.code is UpdateResponseCode.WRONG_EPOCH and before is not None and not moved:
            await self._wait()  # the commit that was first is on its way from the hub to our provider
        if response.code is UpdateResponseCode.WRONG_EPOCH or moved:
            return False, None
        named = set(response.invalid_proposals)
        # Of ours, some do not hold any more; of those we left out, some have come meanwhile. And a joiner
        # asks anew for what is pending.
        stale = self._device.drop_proposals(room_id, named & known)
        if stale or named & self._device.pending(room_id) - known or (named and pending.external):
            return False, None
        raise CommitRefused(int(response.code), response.description)

    async def _external(
        self, room_id: str, required: RequiredPolicy | None, code: str | None, via: Sequence[str]
    ) -> PendingCommit:
        keys = openmls.HpkeKeyPair.generate(ciphersuite=CIPHERSUITE)
        request = group_info_request(self._device, keys, code)
        raw = await self._api.group_info(room_id, request.encode(), via=via)
        opened = open_group_info(GroupInfoResponse.decode(raw), room_id, keys)
        if opened.ratchet_tree.tree is None:
            raise UntrustedAnswer("the hub gave no ratchet tree")
        if required is not None:
            seen = openmls.PublicGroup.observe(
                group_info=opened.group_info,
                ratchet_tree=opened.ratchet_tree.tree,
                now=self._api.clock() // 1000,
            )
            await check_before_joining(self._api, seen, required)
        return self._device.join_external(
            room_id,
            group_info=opened.group_info,
            ratchet_tree=opened.ratchet_tree.tree,
            proposals=[pending.proposal for pending in opened.pending_proposals],
            now=self._api.clock() // 1000,
        )
