"""Container images made of what is on this machine, for engines that reach no registry."""

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from pathlib import Path

_LEFT_OUT = {
    *("test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages"),
    # For building Python itself, and larger than all the rest.
    Path(sysconfig.get_config_var("LIBPL") or "config").name,
}


def import_python_image(tag: str, files: Mapping[str, Path] | None = None) -> None:
    """Makes an image with this machine's Python and shell and gives it the name `tag`, such as `"demo/python:1"`.

    It holds the running interpreter with its standard library, `/bin/sh`, the shared libraries both need, and
    `files`: files and folders by their absolute path in the image. The engine is the one `DOCKER_HOST` names.
    """
    import docker

    client = docker.from_env()
    name, _, version = tag.partition(":")
    client.api.import_image_from_data(
        _root_file_system(files or {}),
        repository=name,
        tag=version or "latest",
        changes=['ENV PATH="/usr/local/bin:/usr/bin:/bin"'],
    )


def _root_file_system(files: Mapping[str, Path]) -> bytes:
    interpreter = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    shell = Path(os.path.realpath(shutil.which("sh") or "/bin/sh"))
    extensions = sorted(library.glob("lib-dynload/*.so"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(interpreter, str(interpreter))
        for path in sorted(library.rglob("*")):
            if path.is_file() and _is_of_use(path.relative_to(library)):
                tar.add(os.path.realpath(path), str(path))
        tar.add(shell, "bin/sh")
        for shared in _shared_libraries(interpreter, shell, *extensions):
            tar.add(os.path.realpath(shared), str(shared))
        for link in ("python", "python3"):
            tar.addfile(_link(f"usr/local/bin/{link}", str(interpreter)))
        for folder in ("tmp", "etc", "root"):
            tar.addfile(_folder(folder))
        for target, source in files.items():
            tar.add(source, target)
    return archive.getvalue()


def _is_of_use(path: Path) -> bool:
    # Byte code that is there already saves each container the work; that for `python -O` is of no use.
    other_byte_code = path.suffix == ".pyc" and not path.name.endswith(f".{sys.implementation.cache_tag}.pyc")
    return not other_byte_code and not _LEFT_OUT.intersection(path.parts)


def _shared_libraries(*programs: Path) -> list[Path]:
    found: set[Path] = set()
    for program in programs:
        listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        found.update(Path(word) for word in listing.split() if word.startswith("/") and Path(word).exists())
    return sorted(found)


def _link(name: str, target: str) -> tarfile.TarInfo:
    link = tarfile.TarInfo(name)
    link.type, link.linkname, link.mode = tarfile.SYMTYPE, target, 0o777
    return link


def _folder(name: str) -> tarfile.TarInfo:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    return folder
