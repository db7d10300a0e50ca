"""Where Welcomes go: to local devices as to-device messages, to other providers as messages "to the server".

"An MLS Welcome message is sent to the providers and local users associated with the KeyPackageRef values in
the secrets array of the Welcome" (MIMI protocol, Fanout Messages). Both kinds are stored in the same
transaction as the commit, and go out from there. A provider's are addressed to the user ``@:provider`` and
the room as device, after the manner of MSC4246.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import orjson
import structlog

from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import user_domain
from linearized.room.algorithms import welcome_content
from linearized.room.submissions import Accepted, WelcomeEffect
from linearized.store.base import NewToDevice, Store

log = structlog.get_logger("linearized.welcomes")

LOCAL_TYPE: Final = "m.room.encrypted"
PROVIDER_TYPE: Final = "m.mls.welcome"


def provider_address(provider: str) -> str:
    """The to-device user ID that stands for a provider's server."""
    return f"@:{provider}"


def local_welcome(
    user_id: str,
    device_id: str,
    *,
    room_id: str,
    sender: str,
    welcome: bytes,
    tree: bytes,
    commit_id: str,
    ciphersuite: int,
) -> NewToDevice:
    """A Welcome for a device of ours, in the draft's to-device shape plus the room and the tree."""
    content = {
        **welcome_content(
            ciphersuite=ciphersuite, ciphertext=encode_base64(welcome), commit_event_id=commit_id
        ),
        "room_id": room_id,
        "ratchet_tree": encode_base64(tree),
    }
    return NewToDevice(
        user_id=user_id,
        device_id=device_id,
        type=LOCAL_TYPE,
        sender=sender,
        content=orjson.dumps(content),
    )


def route_welcomes(
    store: Store, room_id: str, accepted: Accepted, *, ours: frozenset[str]
) -> Iterator[NewToDevice]:
    """The messages that carry an accepted commit's Welcome to whom it is for."""
    for effect in accepted.welcomes:
        providers: set[str] = set()
        local: dict[int, NewToDevice] = {}  # by cipher suite: but for the address they are all the same
        for reference in effect.references:
            package = store.key_package(reference)
            if package is not None and user_domain(package.user_id) in ours:
                if package.ciphersuite not in local:
                    local[package.ciphersuite] = local_welcome(
                        package.user_id,
                        package.device_id,
                        room_id=room_id,
                        sender=accepted.entry.event.sender,
                        welcome=effect.welcome,
                        tree=effect.ratchet_tree,
                        commit_id=effect.commit_event_id,
                        ciphersuite=package.ciphersuite,
                    )
                same = local[package.ciphersuite]
                yield replace(same, user_id=package.user_id, device_id=package.device_id)
                continue
            provider = store.key_package_route(reference, room_id=room_id)
            if provider is None:
                # The commit is valid all the same: whoever added this client can give it the Welcome another
                # way.
                log.warning("welcome_without_route", room_id=room_id)
            else:
                providers.add(provider)
        for provider in sorted(providers):
            yield _for_provider(provider, room_id, accepted, effect)


def _for_provider(provider: str, room_id: str, accepted: Accepted, effect: WelcomeEffect) -> NewToDevice:
    content = {
        "welcome": encode_base64(effect.welcome),
        "ratchet_tree": encode_base64(effect.ratchet_tree),
        "timestamp": accepted.accepted_at,
        "seq": accepted.entry.seq,
    }
    return NewToDevice(
        user_id=provider_address(provider),
        device_id=room_id,
        type=PROVIDER_TYPE,
        sender=accepted.entry.event.sender,
        content=orjson.dumps(content),
    )
