"""The Linearized Matrix server-server face (draft-ralston-mimi-linearized-matrix, Transport).

Every endpoint is served under its final path and under the draft's ``unstable`` one, which is what
implementations use today.
"""

from __future__ import annotations

from linearized.server.endpoints import FINAL, UNSTABLE
from linearized.server.federation import (
    devices,
    directory,
    events,
    invites,
    joining,
    lookup,
    proofs,
    takeover,
    transfer,
)
from linearized.server.federation.calls import SignedHandler, signed
from linearized.server.federation.transactions import Transactions
from linearized.server.http import Route
from linearized.server.node import Node

__all__ = ["FINAL", "UNSTABLE", "routes"]


def routes(node: Node) -> list[Route]:
    """Every endpoint of the face."""
    transactions = Transactions()
    limit = node.limits.provider
    endpoints: tuple[tuple[str, str, str, SignedHandler], ...] = (
        ("GET", "v2", "event/{event_id}", events.event),
        ("GET", "v1", "state/{room_id}", events.state),
        ("GET", "v1", "state_ids/{room_id}", events.state_ids),
        ("GET", "v2", "backfill/{room_id}", events.backfill),
        ("POST", "v3", "invite/{txn_id}", invites.invite),
        ("GET", "v1", "make_leave/{room_id}/{user_id}", joining.make_leave),
        ("POST", "v3", "send_leave/{txn_id}", joining.send_leave),
        ("GET", "v1", "make_join/{room_id}/{user_id}", joining.make_join),
        ("POST", "v3", "send_join/{txn_id}", joining.send_join),
        ("GET", "v1", "make_knock/{room_id}/{user_id}", joining.make_knock),
        ("POST", "v3", "send_knock/{txn_id}", joining.send_knock),
        ("GET", "v1", "user/{user_id}/device/{device_id}", devices.device),
        ("POST", "v1", "user/keys/claim", devices.claim_keys),
    )
    return [
        # "Rate-limited: No", as the only one of the signed endpoints.
        *(
            Route("PUT", path, signed(node, transactions.send))
            for path in (f"{FINAL}/v2/send/{{txn_id}}", f"{UNSTABLE}/send/{{txn_id}}")
        ),
        *(
            Route(method, path, signed(node, handler, limit))
            for method, version, pattern, handler in endpoints
            for path in (f"{FINAL}/{version}/{pattern}", f"{UNSTABLE}/{pattern}")
        ),
        *directory.routes(node, limit),
        *proofs.routes(node, limit),
        *transfer.routes(node, limit),
        *takeover.routes(node, limit),
        *lookup.routes(node),
    ]
