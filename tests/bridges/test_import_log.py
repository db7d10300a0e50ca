from __future__ import annotations

from structlog.testing import capture_logs

from bridges.matrix.import_log import INTERVAL_MS, READING, ImportLog


def test_each_step_is_logged_at_its_beginning_and_now_and_then_with_the_time_it_will_take() -> None:
    now = 1_000
    said = ImportLog("!r:matrix.example", lambda: now)
    with capture_logs() as lines:
        said(READING, 100, 100)
        now += INTERVAL_MS - 1
        said(READING, 200, 200)
        now += 1
        said(READING, 300, 300)
        said("importing", 50, 300)
        now += INTERVAL_MS
        said("importing", 50, 300)
        now += INTERVAL_MS
        said("importing", 175, 300)
    found = [(line["step"], line["done"], line["total"], line.get("seconds_left")) for line in lines]
    assert found == [
        (READING, 100, None, None),
        (READING, 300, None, None),
        ("importing", 50, 300, None),
        ("importing", 50, 300, None),
        # 125 took two intervals, and so will the rest.
        ("importing", 175, 300, 2 * INTERVAL_MS // 1000),
    ]
    assert {line["room_id"] for line in lines} == {"!r:matrix.example"}
