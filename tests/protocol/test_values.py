from __future__ import annotations

from dataclasses import field, replace

import pytest

from linearized.protocol.values import value_object


@value_object
class Point:
    x: int
    y: int = 0
    name: str = field(default="", compare=False)


def test_values_are_equal_and_hash_by_what_is_compared() -> None:
    assert Point(x=1, name="a") == Point(x=1, name="b")
    assert hash(Point(x=1, name="a")) == hash(Point(x=1, name="b"))
    assert Point(x=1) != Point(x=2)
    assert replace(Point(x=1), y=3) == Point(x=1, y=3)


def test_values_take_keywords_alone_and_hold_nothing_else() -> None:
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg]  # which the type checker says too
    assert not hasattr(Point(x=1), "__dict__")
