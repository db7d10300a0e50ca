"""What a step that cannot go on raises, with the evidence beside it."""

from __future__ import annotations

from pathlib import Path

# Enough for a traceback, little enough to read under a table.
TAIL_LINES = 30
_TAIL_BYTES = 64 * 1024


class StepFailed(Exception):  # noqa: N818 - says what happened
    """The demonstration cannot continue; ``evidence`` is the end of the log that says why (may be empty)."""

    def __init__(self, reason: str, evidence: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.evidence = evidence


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last ``lines`` lines of a log file; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return ""
    return "\n".join(data.decode("utf-8", "replace").splitlines()[-lines:])
