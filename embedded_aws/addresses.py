"""Where the server is told and asked what no service of AWS knows."""

CONTROL = "/_embedded_aws/"

LAUNCHES = f"{CONTROL}launches/"
"""Below it, by task definition family: faults of launches are set (PUT), launches are read (GET)."""

REQUESTS = f"{CONTROL}requests"
"""Faults of requests are set (PUT) and ended (DELETE), requests are counted (GET)."""

MESSAGES = f"{CONTROL}messages"
"""Messages that were received and not deleted are shown again (PUT)."""
