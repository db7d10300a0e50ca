"""Files: our own, read from the media directory, and other providers', fetched over MIMI for our users.

"The hub offers the proxyDownload endpoint to proxy asset requests from downloading providers to known asset
providers. … The hub MUST verify that the host part of the downloadUrl is associated with the asset server
domain for one of its peer providers. This prevents the hub from becoming an open proxy." (MIMI protocol,
Download using a hub proxy.) Our peers are the providers that follow our rooms. Those of our kind have their
assets at their own domain, under one path; where those of others are the settings say: "which are configured
as asset storage locations for one of its peer providers" (Download using Oblivious HTTP).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio

from linearized.server.node import Node
from linearized.server.providers.client import ProviderError
from linearized.store.base import MediaRow, Role

# Where a provider of our kind keeps its files; the name is said twice, as a Matrix client would ask for it.
_ASSET: Final = re.compile(
    r"https://(?P<host>[^/?#]+)/_matrix/client/v1/media/download/(?P=host)/(?P<media_id>[A-Za-z0-9_-]+)"
)


class NoSuchAsset(Exception):  # noqa: N818 - answered with 404, whatever the reason
    """There is no such file, or it is none that we fetch."""


def asset_url(provider: str, media_id: str) -> str:
    """Where a provider's file is, as messages name it."""
    return f"https://{provider}/_matrix/client/v1/media/download/{provider}/{media_id}"


def media_path(node: Node, media_id: str) -> Path:
    """Where one of our files lies. ``media_id`` is one this server made."""
    return node.config.data_dir / "media" / media_id


async def read(node: Node, media_id: str) -> tuple[MediaRow, bytes]:
    """One of our own files.

    Raises:
        NoSuchAsset: there is none of that ID.
    """
    row = node.store.media(media_id)
    if row is None:
        raise NoSuchAsset(media_id)
    try:
        return row, await trio.Path(media_path(node, row.media_id)).read_bytes()
    except FileNotFoundError as error:
        raise NoSuchAsset(media_id) from error


async def for_provider(node: Node, provider: str, url: str) -> bytes:
    """A file that another provider asks us for: ours, or a peer's.

    Raises:
        NoSuchAsset: it is neither, or ``provider`` shares no room with us.
        ProviderError: the peer did not give it.
    """
    followers = {row.provider for row in node.store.followers() if row.stop_seq is None}
    hubs = {room.hub for room in node.store.rooms() if room.role is not Role.HUB}
    if provider not in followers | hubs:
        raise NoSuchAsset(url)
    asset = _ASSET.fullmatch(url)
    if asset is not None and asset["host"] == node.identity.name:
        return (await read(node, asset["media_id"]))[1]
    if asset is not None and asset["host"] in followers:
        return await _fetch(node, asset["host"], url)
    peer = _peer_with(node, url)
    if peer not in followers:
        raise NoSuchAsset(url)
    return await node.providers.asset(peer, url, limit=node.config.limits.max_media_bytes)


def _peer_with(node: Node, url: str) -> str:
    """The provider whose assets lie at a URL's host, by the settings; empty if there is none. A host with a
    user or another port than it is listed with is another host.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # a host in brackets that is none
        return ""
    if parts.scheme != "https":
        return ""
    return next(
        (peer for peer, settings in node.config.providers.items() if parts.netloc in settings.asset_hosts), ""
    )


async def for_user(node: Node, user_id: str, *, provider: str, media_id: str) -> bytes:
    """Another provider's file for one of our users: from that provider if it is the hub of one of the user's
    rooms or follows one of ours, else by way of those hubs, so that it does not learn who asks.

    Raises:
        NoSuchAsset: the user shares no room with that provider, or nobody has the file.
        ProviderError: whoever should have it did not answer.
    """
    hubs = hubs_of(node, user_id)
    url = asset_url(provider, media_id)
    if provider in hubs or (node.identity.name in hubs and _shares_room(node, user_id, provider)):
        return await _fetch(node, provider, url)
    failure: ProviderError | None = None
    for hub in sorted(hubs - {node.identity.name}):
        try:
            return await _fetch(node, hub, url)
        except ProviderError as error:
            failure = error
    raise failure or NoSuchAsset(url)


def hubs_of(node: Node, user_id: str) -> frozenset[str]:
    """The hubs of the rooms one of our users is in."""
    return frozenset(
        room.hub
        for membership in node.store.rooms_of(user_id)
        if membership.membership == "join" and (room := node.store.room(membership.room_id)) is not None
    )


def _shares_room(node: Node, user_id: str, provider: str) -> bool:
    return any(
        other.membership == "join" and other.user_id.partition(":")[2] == provider
        for membership in node.store.rooms_of(user_id)
        for other in node.store.memberships(membership.room_id)
    )


async def _fetch(node: Node, provider: str, url: str) -> bytes:
    return await node.providers.download(provider, url, limit=node.config.limits.max_media_bytes)
