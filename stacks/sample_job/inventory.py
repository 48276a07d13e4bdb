"""Reads every file of a folder, and prints how many there are, how well they compress, and their digest.

A job that does real work with the standard library alone, so that it runs in any Python image.

    inventory.py FOLDER [SECONDS_PER_FILE]

Exits 3 when there is nothing to read: an inventory of nothing means that something upstream went wrong.
"""

import hashlib
import json
import pathlib
import sys
import time
import zlib

NOTHING_TO_READ = 3


def main(folder: str, seconds_per_file: str = "0") -> int:
    digest = hashlib.sha256()
    files = size = compressed = 0
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        digest.update(hashlib.sha256(content).digest())
        files += 1
        size += len(content)
        compressed += len(zlib.compress(content))
        if files % 50 == 1:
            print(f"read {files} files, {size} bytes so far", flush=True)
        time.sleep(float(seconds_per_file))
    if not files:
        print(f"nothing to read in {folder}", file=sys.stderr)
        return NOTHING_TO_READ
    print(json.dumps({"files": files, "bytes": size, "compressed": compressed, "sha256": digest.hexdigest()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
