"""Reads one object of S3, checks it, and writes it compressed, with its SHA-256, to another bucket.

What to read comes from the environment that `S3TriggeredThrottledPipeline` gives to a container: OBJECT_BUCKET,
OBJECT_KEY, and OBJECT_VERSION_ID, which is empty in a bucket without versions. OUTPUT_BUCKET says where to write. The
result has the same key and the digest of the original as metadata, so that doing it twice changes nothing.

Exits 4 when the object is not what its name promises: JSON that cannot be read.
"""

import gzip
import hashlib
import json
import os
import sys

import boto3

NOT_WHAT_IT_SAYS = 4


def main() -> int:
    storage = boto3.client("s3")
    bucket, key = os.environ["OBJECT_BUCKET"], os.environ["OBJECT_KEY"]
    version = {"VersionId": os.environ["OBJECT_VERSION_ID"]} if os.environ.get("OBJECT_VERSION_ID") else {}
    content = storage.get_object(Bucket=bucket, Key=key, **version)["Body"].read()
    if key.endswith(".json"):
        try:
            json.loads(content)
        except ValueError as error:
            print(f"{key} is not JSON: {error}", file=sys.stderr)
            return NOT_WHAT_IT_SAYS
    digest = hashlib.sha256(content).hexdigest()
    # Without a time in it, the same content gives the same bytes.
    compressed = gzip.compress(content, mtime=0)
    storage.put_object(Bucket=os.environ["OUTPUT_BUCKET"], Key=key, Body=compressed, Metadata={"sha256": digest})
    print(json.dumps({"key": key, "bytes": len(content), "compressed": len(compressed), "sha256": digest}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
