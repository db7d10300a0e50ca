"""What a room that is loaded takes from its log."""

from __future__ import annotations

import orjson

from linearized.protocol.base64 import encode_base64
from linearized.room.replays import fingerprint
from linearized.server.loading import sent_in
from linearized.store.base import EntryRow


def entry(seq: int, content: object, *, kind: str = "m.room.encrypted", epoch: int = 3) -> EntryRow:
    return EntryRow(
        room_id="!room:a.example",
        seq=seq,
        event_id=f"${seq}",
        type=kind,
        state_key=None,
        sender="@alice:a.example",
        origin_server_ts=1,
        epoch=epoch,
        pdu=orjson.dumps({"content": content}),
    )


def test_the_messages_of_the_present_epoch_are_remembered_oldest_first_and_what_is_none_is_passed_over() -> (
    None
):
    def of(text: bytes) -> dict[str, str]:
        return {"ciphertext": encode_base64(text)}

    latest_first = [
        entry(6, of(b"second")),
        entry(5, {"ciphertext": 5}),
        entry(4, {}),
        entry(3, of(b"first")),
        entry(2, of(b"handshake"), kind="m.mls.commit"),
        entry(1, of(b"before"), epoch=2),
    ]
    assert sent_in(latest_first, 3) == [
        fingerprint(text, "@alice:a.example") for text in (b"first", b"second")
    ]
