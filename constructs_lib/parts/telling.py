"""The states that tell handlers of something, one after the other, and keep what could not be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .handlers import Handler, Message, task_state
from .job import Job
from .retry import RetryPolicy

# A handler that fails is called again for half a minute at most, then its message is kept.
_HANDLER_RETRY = RetryPolicy(max_attempts=4)

THIS_EXECUTION: Mapping[str, Any] = {
    "Execution.$": "$$.Execution",
    "State.$": "$$.State",
    "StateMachine.$": "$$.StateMachine",
}
"""What a state machine tells of the execution that it is in."""

MESSAGE: Message = {"Response.$": "$", "Execution": THIS_EXECUTION}
"""What a state machine tells: all of its data, and the execution."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """Tells handlers, in order. One that cannot be reached never keeps the next from being told.

    Args:
        occasion: What they are told of, in one word: it is part of the names of the states.
        handlers: Who is told.
        description: What they need to know of the job; see `Job.description`.
        dead_letters: Keeps what could not be told.
        message: What they are told, in JSONPath. Default `MESSAGE`.
    """

    occasion: str
    handlers: Sequence[Handler]
    description: Mapping[str, Any]
    dead_letters: sqs.IQueue
    message: Message = field(default_factory=lambda: MESSAGE)

    def states(self, scope: Construct, *, then: sfn.IChainable, job: Job | None = None) -> sfn.IChainable:
        """The states, which leave the data as it is and go on to `then`; `then` itself where nobody is told.

        Handlers are prepared for `job` (`Handler.prepare`) where it is given.
        """
        occasion = self.occasion.lower()
        following = then
        for number, handler in reversed(list(enumerate(self.handlers, start=1))):
            place = Construct(scope, f"{self.occasion}Handler{number}")
            if job is not None:
                handler.prepare(place, job)
            which = f"{number} " if len(self.handlers) > 1 else ""
            tell = handler.state(place, f"Tell {which}of the {occasion}", self.message, self.description)
            keep = task_state(
                place,
                f"Keep what {which}was not told of the {occasion}",
                "sqs:sendMessage",
                {"QueueUrl": self.dead_letters.queue_url, "MessageBody": self.message},
            )
            for state, on_error in ((tell, keep), (keep, following)):
                _HANDLER_RETRY.apply_to(state, errors=["States.ALL"])
                state.add_catch(on_error, errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
                state.next(following)
            following = tell
        return following

    def connect(self, state_machine: sfn.StateMachine) -> None:
        """Allows a state machine to tell, and to keep what it could not tell."""
        for handler in dict.fromkeys(self.handlers):
            handler.grant(state_machine)
        if self.handlers:
            self.dead_letters.grant_send_messages(state_machine)
