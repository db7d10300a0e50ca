"""One set of programs for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from tests.homeserver.stage import Stage, make_stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Running programs. They outlive the tests' own event loops."""
    made = make_stage(tmp_path_factory.mktemp("stage"))
    try:
        trio.run(made.start)
        yield made
    finally:
        trio.run(made.stop)
