"""Whether the tasks run in containers, and the image for that."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from demo.errors import DemoError
from demo.material import Material
from demo.progress import Progress
from embedded_aws.containers import DockerContainers
from embedded_aws.engine import DockerEngine, docker_host
from embedded_aws.images import import_python_image

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
    import_python_image(IMAGE, {str(folder): folder for folder in folders})
    with contextlib.closing(docker.from_env()) as client:
        client.containers.run(IMAGE, ["python", "-c", "import json, zlib"], network_mode="host", remove=True)


def _remove() -> None:
    import docker

    with contextlib.suppress(Exception), contextlib.closing(docker.from_env()) as client:
        client.images.remove(IMAGE, force=True)
