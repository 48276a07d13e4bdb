"""What the server was told to do. Set once, before the corrections are put in place."""

from dataclasses import dataclass, field

from embedded_aws.containers import ContainerRuntime, LocalProcesses
from embedded_aws.launches import LaunchBook
from embedded_aws.requests import RequestBook


@dataclass
class ServerState:
    runtime: ContainerRuntime = field(default_factory=LocalProcesses)
    stop_timeout: float = 30.0
    lambda_concurrency: int = 8
    launches: LaunchBook = field(default_factory=LaunchBook)
    requests: RequestBook = field(default_factory=RequestBook)


STATE = ServerState()
