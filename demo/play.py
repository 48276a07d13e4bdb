"""Scenarios, and how they are played: what is expected is written down before, what is seen is only measured."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from demo.mailbox import Alert
from demo.progress import Progress
from demo.runs import Run

Facts = Mapping[str, str | int]
"""What matters about one scenario, by name, in the order in which people should read it."""

_SIGN_OF_LIFE = 10.0  # seconds


@dataclass
class Record:
    """What happened in a scenario, for the report. It is kept also when the scenario breaks off."""

    runs: list[Run] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    definition: Mapping[str, object] | None = None
    limit: int | None = None
    """How many of the runs may be at work at once, where that is what the scenario is about."""
    picture: bytes = b""
    """What people see of it, as PNG."""


@dataclass(frozen=True)
class Scenario:
    """One thing that must come out as expected.

    Attributes:
        name: `part/what happens`.
        expected: The facts that must be seen, all of them and no others.
        play: Makes it happen and returns the facts that were seen. Whatever it raises is what was seen.
        alone: Whether nothing else may be played at the same time: its faults would hit the wrong one.
        turn: Held while it is played: a lock keeps apart those that would get in each other's way.
    """

    name: str
    expected: Facts
    play: Callable[[Record], Facts]
    alone: bool = False
    turn: contextlib.AbstractContextManager[object] = field(default_factory=contextlib.nullcontext)


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario. `seen` is None where it broke off with `error`."""

    name: str
    wanted: Facts
    seen: Facts | None
    error: str
    seconds: float
    record: Record

    @property
    def ok(self) -> bool:
        return self.seen == self.wanted

    @property
    def expected(self) -> str:
        return as_text(self.wanted)

    @property
    def observed(self) -> str:
        return self.error if self.seen is None else as_text(self.seen)


def as_text(facts: Facts) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts.items())


def play(scenario: Scenario) -> Outcome:
    """Plays one scenario. Never raises because of it."""
    record = Record()
    seen: Facts | None = None
    error = ""
    with scenario.turn:
        started = time.monotonic()
        try:
            seen = scenario.play(record)
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        return Outcome(scenario.name, scenario.expected, seen, error, time.monotonic() - started, record)


def play_all(scenarios: Sequence[Scenario], progress: Progress) -> list[Outcome]:
    """Plays those that need to be alone one after the other, then all others at once. Keeps their order."""
    outcomes: dict[str, Outcome] = {}

    def note(outcome: Outcome) -> None:
        outcomes[outcome.name] = outcome
        mark = "ok    " if outcome.ok else "NOT OK"
        progress.say(f"{mark} {outcome.name} ({outcome.seconds:.1f} s)")

    for scenario in scenarios:
        if scenario.alone:
            note(play(scenario))

    together = [scenario for scenario in scenarios if not scenario.alone]
    pool = ThreadPoolExecutor(max_workers=max(len(together), 1))
    try:
        running: dict[Future[Outcome], str] = {pool.submit(play, scenario): scenario.name for scenario in together}
        while running:
            done, _ = wait(running, timeout=_SIGN_OF_LIFE, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                note(future.result())
            if not done:
                progress.say(f"waiting for {', '.join(running.values())}")
    finally:
        # After Ctrl-C nobody waits for them: they fail as soon as the embedded AWS is gone.
        pool.shutdown(wait=False, cancel_futures=True)
    return [outcomes[scenario.name] for scenario in scenarios]
