"""What to do when an alarm rings, as a page in Markdown with the names of the deployment in it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aws_cdk import Aws


class Entry(NamedTuple):
    """A row of the page's table."""

    alarm: str
    """Its name."""
    what: str
    """What happened."""
    remedy: str
    """What to do."""


def command(function_name: str, payload: str) -> str:
    """How to invoke a function from a shell, and see its answer."""
    # Without end: the CLI would give up after a minute, and call again.
    return (
        f"aws lambda invoke --function-name {function_name} --region {Aws.REGION} --cli-read-timeout 0 "
        f"--cli-binary-format raw-in-base64-out --payload '{payload}' /dev/stdout"
    )


def runbook(title: str, entries: Sequence[Entry], commands: Mapping[str, str]) -> str:
    """The page: a table of alarms, then commands by what they do."""
    rows = [f"| `{one.alarm}` | {one.what} | {one.remedy} |" for one in entries]
    blocks = [f"{what}:\n\n```\n{line}\n```" for what, line in commands.items()]
    table = "\n".join(["| Alarm | What happened | What to do |", "|---|---|---|", *rows])
    return "\n\n".join([f"# {title}", table, "## Commands", *blocks]) + "\n"
