"""An AWS account on this machine: a MiniStack server process, and what its users need of it."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self
from urllib.parse import quote, urlsplit

import boto3
from botocore.config import Config

from embedded_aws.addresses import LAUNCHES, MESSAGES, REQUESTS
from embedded_aws.containers import DockerContainers
from embedded_aws.launches import Launch, LaunchFault, launch_from_json, to_json
from embedded_aws.requests import RequestFault
from embedded_aws.sessions import kill_session

REPOSITORY = Path(__file__).parent.parent
ACCOUNT = "000000000000"
REGION = "us-east-1"

_READY_WITHIN = 60.0
_END_WITHIN = 5.0


class EmbeddedAwsError(RuntimeError):
    """The emulator did not start, or refused a control request."""


class EmbeddedAws:
    """MiniStack as its own process on a free loopback port, with the behaviour of AWS where it differs.

    A context manager; several instances live side by side.

    Args:
        tasks: Where ECS tasks run. `"process"`: the command as a local process, the image is not looked at.
            `"container"`: real containers in the Docker engine `DOCKER_HOST` names. `"auto"`: containers where an
            engine answers, processes elsewhere. Default `"process"`.
        wait_scale: Factor for the pauses of Wait states and retries of Step Functions, and for those before
            retries of asynchronous Lambda invocations (a second, two seconds); 0 skips them. Time-outs, heartbeats
            and the waiting for tasks keep their real length. Default 1.
        stop_timeout: Seconds between SIGTERM and SIGKILL for containers without `stopTimeout`. Default 30, as on
            Fargate.
        lambda_concurrency: Lambda invocations that run at once; others queue. Default 8.
        enforce_iam: Whether requests, also those of Lambda functions, are checked against IAM policies. Roles of
            state machines are not checked by the emulator. Default False.
        corrections: Whether the differences to AWS are put right. False is for the tests of the corrections.

    Attributes:
        endpoint: Address of all services, such as `http://127.0.0.1:4566`.
        account: Account id.
        region: Region of clients.
        log: File with the log of the server. It is removed with everything else at the end.
        tasks: `"process"` or `"container"`, after the choice of `"auto"`.
    """

    account = ACCOUNT
    region = REGION
    endpoint: str
    log: Path

    def __init__(
        self,
        *,
        tasks: Literal["process", "container", "auto"] = "process",
        wait_scale: float = 1.0,
        stop_timeout: float = 30.0,
        lambda_concurrency: int = 8,
        enforce_iam: bool = False,
        corrections: bool = True,
    ) -> None:
        if tasks == "auto":
            tasks = "container" if DockerContainers.answers() else "process"
        self.tasks: Literal["process", "container"] = tasks
        self._settings = {
            "SFN_WAIT_SCALE": str(wait_scale),
            # A second before the first retry at full scale, where AWS waits a minute.
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": str(wait_scale),
            "AUTH": str(enforce_iam).lower(),
            "LAMBDA_ACCOUNT_CONCURRENCY": "0",
        }
        self._options = [
            *([] if corrections else ["--no-corrections"]),
            f"--tasks={tasks}",
            f"--stop-timeout={stop_timeout}",
            f"--lambda-concurrency={lambda_concurrency}",
        ]
        self._server: subprocess.Popen[str] | None = None
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="embedded-aws-"))
        self.log = self._directory / "server.log"
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def environment(self) -> dict[str, str]:
        """Environment for programs that are to use this account: the current one without other accounts' settings."""
        return {
            **_environment_without_aws(),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, service: str) -> Any:
        """The boto3 client of a service, such as `"stepfunctions"`."""
        if service not in self._clients:
            session: Any = boto3.Session("test", "test", region_name=self.region)
            config = Config(proxies={}, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
            self._clients[service] = session.client(service, endpoint_url=self.endpoint, config=config)
        return self._clients[service]

    def reset(self) -> None:
        """Ends all executions and tasks and forgets all resources, faults and launches."""
        self._request("POST", "/_ministack/reset")

    def refuse_launches(self, family: str, faults: Sequence[LaunchFault | None]) -> None:
        """Makes the next attempts of state machines to run a task of this family fail, in this order.

        None lets an attempt run; so do all attempts after the last one listed. Replaces earlier faults.
        """
        self._request("PUT", LAUNCHES + quote(family), [to_json(fault) for fault in faults])

    def launches(self, family: str) -> list[Launch]:
        """The attempts of state machines to run a task of this family, oldest first."""
        return [launch_from_json(launch) for launch in self._request("GET", LAUNCHES + quote(family))]

    def requests(self) -> Counter[str]:
        """How many requests there were so far, by their name in IAM policies, such as `states:StartExecution`.

        S3's are named by their HTTP method, such as `s3:PUT`. What a state machine, a rule or an event source mapping
        does is no request and is not counted.
        """
        return Counter(self._request("GET", REQUESTS))

    def fail_requests(self, name: str, fault: RequestFault, *, share: float = 1.0, times: int | None = None) -> None:
        """Makes requests of a name fail, from now on until `heal_requests`. Replaces an earlier fault of that name.

        Args:
            name: As `requests` counts them.
            fault: What goes wrong.
            share: The part of them that it happens to. Default: all.
            times: How often it happens. Default: for as long as it is set.
        """
        self._request("PUT", REQUESTS, {"name": name, "fault": asdict(fault), "share": share, "times": times})

    def heal_requests(self) -> None:
        """Ends all faults of requests."""
        self._request("DELETE", REQUESTS)

    def end_visibility_timeouts(self, queue: str) -> int:
        """Has what was received of a queue and not deleted come back at once. Takes its URL; returns how many."""
        return int(self._request("PUT", MESSAGES, queue))

    def _start(self) -> None:
        with self.log.open("w") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "embedded_aws.server", f"--directory={self._directory}", *self._options],
                cwd=self._directory,
                env=self._server_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        port = _pipe(self._server.stdout).readline().strip()
        if not port:
            raise EmbeddedAwsError(f"The emulator did not start:\n{self.log.read_text()[-4000:]}")
        self.endpoint = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _READY_WITHIN
        while not self._ready():
            if time.monotonic() > deadline or self._server.poll() is not None:
                raise EmbeddedAwsError(f"The emulator is not ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def _server_environment(self) -> dict[str, str]:
        environment = {
            **_environment_without_aws(),
            **self._settings,
            "BIND_HOST": "127.0.0.1",
            # Listeners besides the one port, on every interface.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "MINISTACK_REGION": self.region,
            "MINISTACK_ACCOUNT_ID": self.account,
            "TMPDIR": str(self._directory),
            "HOME": str(self._directory),
            "PYTHONPATH": str(REPOSITORY),
            # The interpreter's own folder first: `node` may be installed there for Lambda functions.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO"),
        }
        modules = REPOSITORY / "node_modules"
        if modules.is_dir():
            environment["NODE_PATH"] = str(modules)
        return environment

    def _ready(self) -> bool:
        try:
            self._request("GET", "/_ministack/ready")
        except (EmbeddedAwsError, OSError):
            return False
        return True

    def _stop(self) -> None:
        server = self._server
        if server is not None:
            with contextlib.suppress(OSError):
                _pipe(server.stdin).close()
            server.terminate()
            try:
                server.wait(_END_WITHIN)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            kill_session(server.pid)
            _pipe(server.stdout).close()
            self._server = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        address = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise EmbeddedAwsError(f"{method} {path} gave {response.status}: {text[:500]!r}")
            return json.loads(text)


def _environment_without_aws() -> dict[str, str]:
    dropped = ("AWS_", "CDK_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "MINISTACK_", "LOCALSTACK_")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
