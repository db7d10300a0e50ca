"""The assertions of the demonstration: each has a name, what was measured, and whether it held."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.table import Table

from linearized.demo.failures import StepFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the table."""

    step: str
    name: str
    measured: str
    held: bool


@dataclass(slots=True)
class Checks:
    """Collects the lines; ``step`` names the part of the demonstration that is running."""

    step: str = ""
    lines: list[Check] = field(default_factory=list)

    def note(self, name: str, measured: object) -> None:
        """Record a measurement that nothing depends on."""
        self._add(name, measured, held=True)

    def that(self, name: str, held: bool, measured: object = "") -> None:
        """Record an assertion; a false one fails the demonstration at its end, not here."""
        self._add(name, measured, held=held)

    def equal(self, name: str, measured: object, expected: object) -> None:
        """Record that two values are equal; shows both if they are not."""
        held = measured == expected
        self._add(name, measured if held else f"{measured}, expected {expected}", held=held)

    def require(self, name: str, held: bool, measured: object, evidence: str = "") -> None:
        """Record an assertion that what follows stands on.

        Raises:
            StepFailed: it does not hold.
        """
        self._add(name, measured, held=held)
        if not held:
            raise StepFailed(f"{name}: {measured}", evidence)

    def _add(self, name: str, measured: object, *, held: bool) -> None:
        self.lines.append(Check(step=self.step, name=name, measured=str(measured), held=held))

    @property
    def all_held(self) -> bool:
        """Whether every assertion held, and there was one."""
        return bool(self.lines) and all(line.held for line in self.lines)

    def table(self) -> Table:
        """What was done and what was found, in order."""
        table = Table("", "step", "what", "measured", box=None, pad_edge=False)
        previous = None
        for line in self.lines:
            mark = "[green]✓[/green]" if line.held else "[bold red]✗[/bold red]"
            table.add_row(mark, line.step if line.step != previous else "", line.name, line.measured)
            previous = line.step
        return table


def milliseconds(samples: list[float]) -> str:
    """Median and maximum of durations in seconds, for the table."""
    ordered = sorted(samples)
    median, worst = ordered[len(ordered) // 2] * 1000, ordered[-1] * 1000
    return f"median {median:.0f} ms, worst {worst:.0f} ms of {len(ordered)}"
