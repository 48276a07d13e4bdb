"""An unreliable neighbour: it books what it is given, takes its time, or is down, as it is told from outside.

The parameter that MOOD names holds {"down": false, "seconds": 0}. What has no amount it always refuses. BOOKINGS is a
table in which it counts, so that one can see what was booked twice.
"""

import json
import os
import time
from typing import Any

import boto3


class NeighbourDownError(Exception):
    """Maintenance. Later it will work."""


class RefusedError(Exception):
    """There is something wrong with what was asked for. To ask again is of no use."""


def handle(event: dict[str, Any], _context: object) -> dict[str, str]:
    mood = json.loads(boto3.client("ssm").get_parameter(Name=os.environ["MOOD"])["Parameter"]["Value"])
    time.sleep(mood["seconds"])
    name = event["name"]
    if mood["down"]:
        raise NeighbourDownError(f"{name}: closed for maintenance, nobody knows until when")
    if not event.get("amount"):
        raise RefusedError(f"{name}: nothing can be booked without an amount")
    boto3.client("dynamodb").update_item(
        TableName=os.environ["BOOKINGS"],
        Key={"name": {"S": name}},
        UpdateExpression="ADD booked :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    return {"booked": name}
