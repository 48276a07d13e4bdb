"""What is told of a run when it has ended: to the state machine, to people, and to the next run. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alert.failure import quotable
from alert.message import execution_link
from alert.reading import shortened
from distributed_map.failures import Group, in_words
from distributed_map.reckoning import Counts, Tolerance

LARGEST = 32_000
"""Bytes of the answer: it is handed from state to state, where all together may have 256 KiB."""

ENDED_BADLY = {"FAILED": "States.TaskFailed", "TIMED_OUT": "States.Timeout", "ABORTED": "Aborted"}
"""The error of an ending that has none of its own."""

_WHOLE_RUN = {
    "States.ItemReaderFailed": "The items could not be read",
    "States.ResultWriterFailed": "The results could not be written",
}

_SIZES = ((10, 400, 100), (10, 150, 60), (5, 60, 30), (3, 30, 10))
"""Groups, characters of their messages, and of their samples: the first that fit are taken."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """An execution of the state machine.

    Args:
        execution: Its ARN.
        name: Its name.
        status: `RUNNING` where the map has ended well and the account is the next state, otherwise how it ended.
        error: The error that it ended with, may be empty.
        cause: What was said about it, may be empty.
        redrives: How often it was redriven.
        started_at: ISO 8601.
        ended_at: ISO 8601, None where it is not known.
    """

    execution: str
    name: str
    status: str
    error: str
    cause: str
    redrives: int
    started_at: str
    ended_at: str | None

    @property
    def has_failed(self) -> bool:
        return self.status in ENDED_BADLY

    @property
    def machine(self) -> str:
        """The ARN of the state machine."""
        return self.execution.replace(":execution:", ":stateMachine:", 1).rpartition(":")[0]

    @property
    def partition(self) -> str:
        return self.execution.split(":")[1]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run.

    Args:
        run: The execution.
        counts: Its items.
        groups: Why items failed, the most frequent reason first.
        notices: The first of them.
        tolerance: How many items may fail.
        empty_fails: Whether a run without any item has failed.
        incomplete: Why it is not known of each item whether it has to run again; empty where it is.
        files: Where things lie, by name: `summary`, `failures`, `notices`.
    """

    run: Run
    counts: Counts
    groups: Sequence[Group]
    notices: Sequence[Mapping[str, str]]
    tolerance: Tolerance
    empty_fails: bool
    incomplete: str
    files: Mapping[str, str]

    @property
    def error(self) -> str | None:
        """The name of what is wrong with the run, None where nothing is."""
        if self.run.status == "ABORTED":
            # What an operator gave as an error is a reason, and no failure of its own.
            return ENDED_BADLY["ABORTED"]
        if self.run.has_failed:
            return self.run.error or ENDED_BADLY[self.run.status]
        if self.counts.total == 0:
            return "NoItems" if self.empty_fails else None
        return None if self.tolerance.allows(self.counts) else "ItemsFailed"

    @property
    def again(self) -> dict[str, Any]:
        """The input of an execution that processes what was not done."""
        return {"rerun": {"execution": self.run.execution}}

    def to_dict(self) -> dict[str, Any]:
        """What the state machine gets."""
        answers = (self._to_dict(*size) for size in _SIZES)
        smallest = self._to_dict(*_SIZES[-1])
        return next((each for each in answers if len(json.dumps(each)) <= LARGEST), smallest)

    def _to_dict(self, most: int, longest_message: int, longest_sample: int) -> dict[str, Any]:
        error = self.error
        notices = None
        if self.counts.notices:
            samples = [
                {"item": shortened(each["item"], longest_sample), "notice": shortened(each["notice"], longest_message)}
                for each in self.notices
            ]
            notices = {"count": self.counts.notices, "samples": samples, "location": self.files["notices"]}
        return {
            "failed": error is not None,
            "counts": self.counts.to_dict(),
            "groups": [self._group(each, longest_message, longest_sample) for each in self.groups[:most]],
            "error": {"Error": error, "Cause": self._cause(groups=most, longest=longest_message)} if error else None,
            "again": self.again,
            "notices": notices,
            "summary": self.files["summary"],
        }

    def _group(self, group: Group, longest_message: int, longest_sample: int) -> dict[str, Any]:
        told = group.to_dict(link=link_to(group.execution))
        samples = [shortened(each, longest_sample) for each in told["samples"]]
        return {**told, "message": shortened(told["message"], longest_message), "samples": samples}

    def _cause(self, *, groups: int, longest: int) -> str:
        """What is wrong, for people."""
        sentences = [self._ending(longest), self._numbers(), in_words(self.groups[:groups], longest=longest)]
        if self.counts.failed or self.counts.stopped:
            sentences.append(f"All: {self.files['failures']}.")
        if self.incomplete:
            sentences.append(f"Not complete: {shortened(self.incomplete, 2 * longest)}.")
        if self.error is not None:
            # The last, as it has braces, which end what an alert quotes.
            sentences.append(f"Again: {json.dumps(self.again)}")
        return " ".join(filter(None, sentences))

    def _ending(self, longest: int) -> str:
        run = self.run
        if not run.has_failed:
            return "There were no items." if self.counts.total == 0 else ""
        if run.status == "TIMED_OUT":
            return "The run took longer than allowed."
        if run.error == "States.ExceedToleratedFailureThreshold":
            # The items' own failures say more.
            return "" if self.counts.failed else "More items failed than are tolerated."
        words = shortened(" ".join(quotable(run.cause).split()).rstrip("."), 2 * longest)
        if run.status == "ABORTED":
            return f"{': '.join(filter(None, ('Somebody stopped the run', run.error, words)))}."
        what = _WHOLE_RUN.get(run.error, f"It failed with {run.error or 'no error name'}")
        return f"{what}: {words}." if words else f"{what}."

    def _numbers(self) -> str:
        counts = self.counts
        if not counts.total:
            return ""
        allowed = f" (allowed: {self.tolerance})" if counts.failed or not self.tolerance.allows(counts) else ""
        numbers = [f"{counts.failed:,} of {counts.total:,} items failed{allowed}"]
        never_begun = counts.not_run - counts.stopped
        if counts.stopped:
            numbers.append(f"{counts.stopped:,} were stopped")
        if never_begun:
            numbers.append(f"{never_begun:,} were never started")
        if counts.unknown:
            numbers.append(f"of {counts.unknown:,} nothing is known")
        return f"{', '.join(numbers)}."


def link_to(execution: str | None) -> str | None:
    """To a child in the console; those of type EXPRESS have no page of their own."""
    if execution is None or ":express:" in execution:
        return None
    return execution_link(execution)
