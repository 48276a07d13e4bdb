"""What AWS charges, for estimates: list prices of us-east-1, as of November 2026 and without free tiers."""

from collections.abc import Mapping

MILLION = 1_000_000

PRICES: Mapping[str, float] = {
    "transition": 25.0,
    "Express request": 1.00,
    "Express GB-second": 16.6667,
    "Lambda request": 0.20,
    "Lambda GB-second": 16.6667,
    "write unit": 0.625,
    "read unit": 0.125,
    "queue request": 0.40,
    "event": 1.00,
    "LIST or PUT": 5.00,
    "GET": 0.40,
}
"""US$ per million. An event of S3 on EventBridge is one that is opted into: https://aws.amazon.com/eventbridge/pricing/.
Express workflows are priced at https://aws.amazon.com/step-functions/pricing/: 0.06 per GB-hour for the first 1,000.
"""

LAMBDA_GB = 0.25
"""The memory of a function that says nothing else."""


def priced(units: Mapping[str, float]) -> float:
    """In US$."""
    return sum(count * PRICES[unit] for unit, count in units.items()) / MILLION
