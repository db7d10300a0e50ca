"""Who may have the key packages of whom (draft-ietf-mimi-protocol-06, "Convey explicit consent")."""

from __future__ import annotations

from linearized.mimi.consent import ConsentState, consent_refusal
from linearized.mimi.key_material import KeyMaterialUserCode
from linearized.protocol.identifiers import user_domain
from linearized.server.node import Node


def is_required(node: Node, target: str, requester_domain: str) -> bool:
    """Whether a user of that domain needs the target's grant: as the target says, else as the settings do."""
    own = node.store.consent_required(target)
    if own is not None:
        return own
    return requester_domain not in node.served_domains and node.config.consent.is_required_from(
        requester_domain
    )


def refusal(node: Node, *, requester: str, target: str, room_id: str | None) -> KeyMaterialUserCode | None:
    """Why a user may not have key packages of one of ours for a room; None if they may."""
    states = {row.room_id or None: ConsentState(row.state) for row in node.store.consents(requester, target)}
    required = requester != target and is_required(node, target, user_domain(requester))
    return consent_refusal(states, room_id, required=required)
