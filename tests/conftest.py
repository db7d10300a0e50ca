"""What holds for every test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No width of a terminal that tests may have been started from, or are said to have by what runs them."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not repeat what may be repeated, which with its pauses takes seconds."""
    monkeypatch.setattr("linearized.client.transport.MAX_ATTEMPTS", 1)
