"""What npm's asl-validator 4.0.0 has to say about a definition, in JSONPath or JSONata.

It finds unknown and missing fields, targets that do not exist, states that nothing leads to, invalid paths
and JSONata that does not parse. It lets unknown fields of Retry pass. Neither cfn-lint nor the validation
built into the CDK looks into a definition that is a string with references, which is how the CDK writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from asl_tools.node import run_script


def problems(definition: Mapping[str, Any]) -> list[str]:
    """The problems of one definition, none if it is valid."""
    return problems_of_all([definition])[0]


def problems_of_all(definitions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The problems of each definition, all looked at in one Node process: its start takes most of the time.

    Raises NodeError if Node or the npm package is missing.
    """
    found: list[list[str]] = run_script("validate.mjs", definitions)
    return found
