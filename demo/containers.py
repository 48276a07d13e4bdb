"""Whether the tasks run in containers, and the image for that."""

import contextlib
import site
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from demo.errors import DemoError
from demo.material import Material
from demo.progress import Progress
from embedded_aws.containers import DockerContainers
from embedded_aws.engine import DockerEngine, docker_host
from embedded_aws.images import import_python_image

_SDK = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")

IMAGE = "constructs-lib-demo/python:local"


@contextlib.contextmanager
def image(tasks: str, material: Material, progress: Progress) -> Iterator[str | None]:
    """The name of an image that can run the sample job on the demo's files; None if tasks are to be processes.

    It is made of this machine's Python, as nothing may be pulled, and removed at the end.

    Args:
        tasks: `"container"`: with the engine that answers, or one that is started for the demo. `"auto"`: only
            with one that answers and can run the image. `"process"`: never.

    Raises:
        DemoError: `tasks` is `"container"`, and that cannot be.
    """
    if tasks == "process" or (tasks == "auto" and not DockerContainers.answers()):
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            if not DockerContainers.answers():
                stack.enter_context(docker_host(stack.enter_context(DockerEngine()).host))
            with progress.step("image", "making a container image"):
                stack.callback(_remove)
                _make(material)
        except Exception as error:
            if tasks == "container":
                raise DemoError(f"The tasks cannot run in containers: {error}") from error
            progress.say(f"there is a Docker engine, but no image could be made for it: {error}")
            yield None
        else:
            yield IMAGE


def _make(material: Material) -> None:
    import docker

    folders: tuple[Path, ...] = (material.folder, material.other, material.empty)
    import_python_image(IMAGE, {**{str(folder): folder for folder in folders}, **_sdk()})
    with contextlib.closing(docker.from_env()) as client:
        try_out = "import json, zlib, boto3; boto3.client('s3', region_name='us-east-1')"
        client.containers.run(IMAGE, ["python", "-c", try_out], network_mode="host", remove=True)


def _sdk() -> dict[str, Path]:
    """The SDK and what it needs, as far as S3 is concerned, by the paths where the image's Python finds it.

    The engine may copy the whole image for each container, so that what is left out counts.
    """
    [target, *_] = site.getsitepackages([sys.base_prefix])
    sources = [Path(str(spec.origin)) for spec in map(find_spec, _SDK) if spec]
    parts = [path.parent if path.name == "__init__.py" else path for path in sources]
    [botocore] = [part for part in parts if part.name == "botocore"]
    parts += [path for path in botocore.iterdir() if path.name != "data"]
    parts += [botocore / "data" / "s3", *(botocore / "data").glob("*.json")]
    parts.remove(botocore)
    return {f"{target}/{part.relative_to(botocore.parent)}": part for part in parts}


def _remove() -> None:
    import docker

    with contextlib.suppress(Exception), contextlib.closing(docker.from_env()) as client:
        client.images.remove(IMAGE, force=True)
