"""``openmls`` as the room wants it (``linearized.mls.Mls``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import openmls

from linearized.mls import MessageInfo, PublicGroup


class OpenMls:
    """The binding, with the server's clock for lifetimes.

    Args:
        clock: milliseconds since the Unix epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def inspect_message(self, data: bytes) -> MessageInfo:
        """See ``linearized.mls.Mls``."""
        return openmls.inspect_message(data)

    def welcome_references(self, welcome: bytes) -> Sequence[bytes]:
        """See ``linearized.mls.Mls``."""
        return openmls.welcome_references(welcome)

    def observe(self, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """See ``linearized.mls.Mls``."""
        return openmls.PublicGroup.observe(
            group_info=group_info, ratchet_tree=ratchet_tree, now=self._clock() // 1000
        )

    def load(self, snapshot: bytes, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """See ``linearized.mls.Mls``."""
        try:
            return openmls.PublicGroup.load(snapshot)
        except openmls.SnapshotFormat:
            # After an upgrade. Lifetimes were checked when the leaves came, and some may have ended since.
            return openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=ratchet_tree)
