"""The states that take a permit before work and give it back after it, whatever became of the work."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from aws_cdk import Duration, Stack, Token
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .job import ERROR, LONGEST_EXECUTION, PERMITS, BoundJob, Job
from .retry import RetryPolicy
from .validation import invalid, require_duration, require_type, require_whole_number

if TYPE_CHECKING:
    # The semaphore makes guards.
    from .semaphore import SharedSemaphore

OnBusy = Literal["wait", "skip", "fail"]

WAIT_TIMEOUT = "Semaphore.WaitTimeout"
"""The error of a guard that got no permit within its ``wait_timeout``."""

BUSY = "Semaphore.Busy"
"""The error of a guard with ``on_busy="fail"`` that found no free permit."""

PAUSED = "Semaphore.Paused"
"""The error of a guard that would have to wait for the end of a pause in which new work fails."""

# What the function answers on purpose. To ask again would not change the answer.
_ANSWERS = [BUSY, PAUSED, "Semaphore.WeightAboveLimit", "Semaphore.InvalidRequest"]

# The function, or the table behind it, is away: up to 4 minutes of asking again.
_CALL_RETRY = RetryPolicy(max_attempts=9, interval=Duration.seconds(1))

# Also the greatest limit: so many executions may be open in a region.
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
MOST_PERMITS = 1_000_000

# What all guards without a key count together.
_ONE_FOR_ALL = "default"

# The name goes into those of states, which may have 80 characters, and into paths:
# https://docs.aws.amazon.com/step-functions/latest/dg/statemachine-structure.html
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")
_PATH = re.compile(r"\$\$?(\.[A-Za-z_][\w-]*|\['[^']+'\]|\[\d+\])+")
_LONGEST_KEY = 1024


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a guard asks for; see `SharedSemaphore.guard`."""

    key: str | None = None
    weight: int | str = 1
    wait_timeout: Duration | None = None
    on_busy: OnBusy = "wait"

    def check(self, where: Construct, *, limit: int | None) -> None:
        """Refuses what the function would refuse, or never answer, when the work is already waiting.

        Raises:
            ConfigurationError: with the argument, the rule and the remedy.
        """
        if self.key is not None:
            self._check_key(where, self.key)
        if isinstance(self.weight, str):
            if not Token.is_unresolved(self.weight):
                _require_path(where, "weight", self.weight, "Pass for example '$.weight', or a whole number.")
        else:
            require_whole_number(where, "weight", self.weight, at_least=1, at_most=limit or MOST_PERMITS)
        if self.on_busy not in get_args(OnBusy):
            raise invalid(where, "on_busy", "must be 'wait', 'skip' or 'fail'", self.on_busy, "Leave it out to wait.")
        if self.wait_timeout is not None:
            require_duration(where, "wait_timeout", self.wait_timeout, at_most=LONGEST_EXECUTION)
            if self.on_busy != "wait":
                raise invalid(
                    where,
                    "wait_timeout",
                    f"is of no use with on_busy={self.on_busy!r}, which does not wait",
                    self.wait_timeout,
                    "Leave one of the two out.",
                )

    def _check_key(self, where: Construct, key: str) -> None:
        require_type(where, "key", key, str, "Pass for example '$.tenant', or leave it out.")
        if Token.is_unresolved(key):
            return
        if key.startswith("$"):
            _require_path(where, "key", key, "Pass for example '$.tenant', or sfn.JsonPath.format(...).")
        elif not 1 <= len(key) <= _LONGEST_KEY:
            raise invalid(where, "key", f"must have 1 to {_LONGEST_KEY} characters", key, "Leave it out for one limit.")

    @property
    def input_paths(self) -> Sequence[str]:
        """The JSONPaths that must exist in the execution's input."""
        asked = {"key": _value(self.key or _ONE_FOR_ALL), "weight": _value(self.weight)}
        return [path for path in sfn.FieldUtils.find_referenced_paths(asked) if not path.startswith("$$")]


class Permit:
    """The states around one guarded piece of work, all under one scope.

    The permit lies at ``$.permits.<id>`` between its first state and its last, beside the input.
    """

    def __init__(self, scope: Construct, id_: str, semaphore: "SharedSemaphore", terms: Terms) -> None:
        require_type(scope, "id", id_, str, "Pass for example 'Quota'.")
        if not _ID.fullmatch(id_):
            raise invalid(
                scope, "id", "must be a letter, then up to 49 letters, digits or _", id_, "Pass for example 'Quota'."
            )
        terms.check(scope, limit=semaphore.limit)
        self.path = f"$.{PERMITS}.{id_}"
        self._scope = scope
        self._id = id_
        self._semaphore = semaphore
        self._terms = terms

    def acquire(self) -> sfn.CustomState:
        """The state that waits for the permit: one transition and no call while it waits."""
        terms = self._terms
        payload: dict[str, Any] = {
            "action": "acquire",
            "token": sfn.JsonPath.task_token,
            "execution": sfn.JsonPath.execution_id,
            "order": sfn.JsonPath.execution_start_time,
            "key": _value(_ONE_FOR_ALL if terms.key is None else terms.key),
            "weight": _value(terms.weight),
            "onBusy": terms.on_busy,
        }
        # Also tells this guard from every other when the state machines are checked.
        comment = f"{self._scope.node.path}: a permit of {self._semaphore.node.path}"
        fields: dict[str, Any] = {"Comment": comment, "ResultPath": self.path}
        if terms.wait_timeout is not None:
            fields["TimeoutSeconds"] = int(terms.wait_timeout.to_seconds())
        state = self._call(f"Acquire {self._id}", "lambda:invoke.waitForTaskToken", payload, fields)
        # Before the wildcard: these are told as they are, at once.
        state.add_retry(errors=_ANSWERS, max_attempts=0)
        # All but a time-out: who waited long enough does not begin anew.
        _CALL_RETRY.apply_to(state, errors=["States.TaskFailed"])
        self._semaphore.remember(self._scope, comment)
        return state

    def granted(self, work: sfn.IChainable, *, skipped: sfn.IChainable) -> sfn.IChainable:
        """What lies between the answer and the work: the way past the work, and the pace of starts."""
        if self._semaphore.paced:
            work = sfn.Wait(
                self._scope, f"Start {self._id} on time", time=sfn.WaitTime.timestamp_path(f"{self.path}.startAt")
            ).next(work)
        if self._terms.on_busy != "skip":
            return work
        refused = sfn.Condition.boolean_equals(f"{self.path}.granted", False)
        return sfn.Choice(self._scope, f"Is {self._id} granted?").when(refused, skipped, comment="busy").otherwise(work)

    def release(self, name: str, **fields: Any) -> sfn.CustomState:
        """A state that gives the permit back, and leaves the data as it is."""
        payload = {"action": "release", "permit": sfn.JsonPath.object_at(f"{self.path}.permit")}
        state = self._call(name, "lambda:invoke", payload, {"ResultPath": sfn.JsonPath.DISCARD, **fields})
        _CALL_RETRY.apply_to(state, errors=["States.ALL"])
        return state

    def release_after_failure(self, then: sfn.IChainable) -> sfn.CustomState:
        """Gives the permit back and goes on to `then`, also when it cannot be given back."""
        state = self.release(f"Release {self._id} after failure")
        # The sweeper finds it when the execution ended. The error to tell is that of the work.
        state.add_catch(then, errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
        state.next(then)
        return state

    def release_after_success(self, **fields: Any) -> tuple[sfn.CustomState, sfn.Pass]:
        """Gives the permit back; the second state is passed instead when it cannot be given back."""
        state = self.release(f"Release {self._id}", **fields)
        output = fields.get("OutputPath")
        left = sfn.Pass(self._scope, f"Leave {self._id} to the sweeper", input_path=output)
        state.add_catch(left, errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
        return state, left

    @property
    def waited_too_long(self) -> str:
        """What a person is told when ``wait_timeout`` is over."""
        assert self._terms.wait_timeout is not None
        waited = self._terms.wait_timeout.to_human_string()
        return f"No permit of {self._semaphore.node.path} within {waited}."

    def _call(self, name: str, action: str, payload: Mapping[str, Any], fields: Mapping[str, Any]) -> sfn.CustomState:
        return sfn.CustomState(
            self._scope,
            name,
            state_json={
                "Type": "Task",
                "Resource": f"arn:{Stack.of(self._scope).partition}:states:::{action}",
                "Parameters": {
                    "FunctionName": self._semaphore.function_arn,
                    "Payload": sfn.FieldUtils.render_object(payload),
                },
                **fields,
            },
        )


class Guard(sfn.StateMachineFragment):
    """Work that is done with a permit only. Made by `SharedSemaphore.guard`.

    Acquire -> the work -> Release
                        -> (on failure) Release after failure -> fails with the work's own error

    A single state that keeps its input beside its result is guarded as it is: three transitions. Anything else is
    put into a Parallel state, so that whatever fails in it can be caught: one transition more.
    """

    def __init__(
        self, scope: Construct, id_: str, *, semaphore: "SharedSemaphore", job: sfn.IChainable, terms: Terms
    ) -> None:
        super().__init__(scope, id_)
        permit = Permit(self, id_, semaphore, terms)
        self._start = permit.acquire()
        if terms.wait_timeout is not None:
            too_long = sfn.Fail(self, f"Waited too long for {id_}", error=WAIT_TIMEOUT, cause=permit.waited_too_long)
            self._start.add_catch(too_long, errors=["States.Timeout"], result_path=sfn.JsonPath.DISCARD)

        error = f"{permit.path}.error"
        failed = sfn.Fail(self, f"Failed {id_}", error_path=f"{error}.Error", cause_path=f"{error}.Cause")
        work: sfn.State
        if _is_guarded_as_it_is(job):
            work = job.start_state
            release, left = permit.release_after_success()
        else:
            outputs = f"{permit.path}.outputs"
            work = sfn.Parallel(self, f"Guard {id_}", result_path=outputs).branch(job)
            # The output is that of the work, as if nothing were around it.
            release, left = permit.release_after_success(OutputPath=f"{outputs}[0]")
        if isinstance(work, sfn.TaskStateBase | sfn.CustomState | sfn.Parallel | sfn.Map | sfn.DistributedMap):
            work.add_catch(permit.release_after_failure(failed), errors=["States.ALL"], result_path=error)
        skipped = sfn.Pass(self, f"Skip {id_}")
        self._start.next(permit.granted(sfn.Chain.start(work).next(release), skipped=skipped))
        self._ends: list[sfn.INextable] = [release, left, *([skipped] if terms.on_busy == "skip" else [])]

    @property
    def start_state(self) -> sfn.State:
        """The state that waits for the permit."""
        return self._start

    @property
    def end_states(self) -> list[sfn.INextable]:
        """Where the work succeeded and its permit is given back, or where it was skipped."""
        return self._ends


@dataclass(frozen=True, kw_only=True)
class GuardedJob:
    """A job that is run with a permit only, without a state more than Acquire and Release.

    Where no permit is to be had (``on_busy="fail"``, ``wait_timeout``) the job failed; where it is skipped the
    execution ends at once, SUCCEEDED, with ``{"granted": false}`` at ``$.permits.<id>``.

    Args:
        job: What to run.
        semaphore: Whose permit it takes.
        id: Tells this guard from others around the same job; part of the names of its states.
        terms: What is asked for.
        output_path: What of the data is the output of the last state. Default: all of it.
    """

    job: Job
    semaphore: "SharedSemaphore"
    id: str
    terms: Terms = Terms()
    output_path: str | None = None

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        """See `Job.bind`."""
        place = Construct(scope, self.id)
        permit = Permit(place, self.id, self.semaphore, self.terms)
        acquire = permit.acquire()
        job = self.job.bind(scope, on_failure=permit.release_after_failure(on_failure))

        wait = self.terms.wait_timeout
        if wait is not None:
            too_long = sfn.Pass(
                place,
                f"Waited too long for {self.id}",
                result=sfn.Result.from_object({"Error": WAIT_TIMEOUT, "Cause": permit.waited_too_long}),
                result_path=f"$.{ERROR}",
            ).next(on_failure)
            acquire.add_catch(too_long, errors=["States.Timeout"], result_path=sfn.JsonPath.DISCARD)
        acquire.add_catch(on_failure, errors=["States.ALL"], result_path=f"$.{ERROR}")

        output = {} if self.output_path is None else {"OutputPath": self.output_path}
        release, left = permit.release_after_success(**output)
        skipped = sfn.Succeed(place, f"Skipped for want of {self.id}")
        acquire.next(permit.granted(job.chain.next(release), skipped=skipped))

        waits = Duration.seconds(0) if self.terms.on_busy != "wait" else wait or LONGEST_EXECUTION
        return replace(
            job,
            chain=sfn.Chain.custom(acquire, [release, left], release),
            longest_run=job.longest_run.plus(waits),
            connections=[*job.connections, self.semaphore],
        )

    def description(self) -> Mapping[str, Any]:
        """See `Job.description`."""
        return self.job.description()

    def log_group_arns(self) -> Sequence[str]:
        """See `Job.log_group_arns`."""
        return self.job.log_group_arns()

    def input_paths(self) -> Sequence[str]:
        """See `Job.input_paths`."""
        return [*self.job.input_paths(), *self.terms.input_paths]


def _is_guarded_as_it_is(job: sfn.IChainable) -> bool:
    """Whether `job` is one state that can be caught, or cannot fail, and that leaves the permit in the data."""
    state = job.start_state
    if len(sfn.State.find_reachable_states(state, include_error_handlers=True)) > 1 or not job.end_states:
        return False
    asl = state.to_state_json()
    if asl.get("QueryLanguage", "JSONPath") != "JSONPath" or "Catch" in asl or "OutputPath" in asl:
        return False
    if asl["Type"] == "Wait":
        return "InputPath" not in asl
    keeps = "ResultPath" in asl and not re.match(rf"\$(\.{PERMITS}\b.*)?$", asl["ResultPath"] or "")
    return keeps and asl["Type"] in ("Task", "Pass", "Parallel", "Map")


def _value(value: str | int) -> Any:
    """A path given as plain text becomes what the CDK takes for one."""
    if isinstance(value, str) and _PATH.fullmatch(value):
        return sfn.JsonPath.string_at(value)
    return value


def _require_path(where: Construct, argument: str, path: str, remedy: str) -> None:
    if not _PATH.fullmatch(path):
        raise invalid(where, argument, "must be a path into the input, such as $.name", path, remedy)
