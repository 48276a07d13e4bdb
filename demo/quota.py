"""A deployed semaphore, as its operators see it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from demo.waiting import eventually
from embedded_aws import EmbeddedAws


class Quota:
    """The only key of a semaphore, asked through its function.

    Args:
        aws: Where it is.
        function: The function's name.
    """

    def __init__(self, aws: EmbeddedAws, function: str) -> None:
        self._lambda: Any = aws.client("lambda")
        self._function = function

    def status(self) -> Mapping[str, Any]:
        """What is going on: `inUse`, `waiting` and so on."""
        return self._ask("status")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses it for a while: nobody is granted a permit."""
        self._ask("pause")
        try:
            yield
        finally:
            self._ask("resume")

    def settles(self, **wanted: int) -> Mapping[str, Any]:
        """The status as soon as it is as wanted, or the last one when the time is up."""
        return eventually(self.status, lambda status: wanted.items() <= status.items())

    def _ask(self, action: str) -> Mapping[str, Any]:
        reply = self._lambda.invoke(FunctionName=self._function, Payload=json.dumps({"action": action}))
        answer = json.loads(reply["Payload"].read())
        if "FunctionError" in reply:
            raise RuntimeError(f"{action}: {answer}")
        idle = {"inUse": 0, "waiting": 0}
        return dict(answer["keys"].get("default", idle))
