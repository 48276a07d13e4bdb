"""What the scenarios find when they begin."""

from dataclasses import dataclass
from pathlib import Path

from demo.material import Material
from demo.objects import Selection
from demo.stack import DeployedStack
from embedded_aws import EmbeddedAws


@dataclass(frozen=True)
class Stage:
    """An account with everything deployed, and the files to work on.

    Attributes:
        objects: The files that are uploaded.
        timeout_seconds: How long a task of the deployed examples may run.
        build: The folder for what the demo makes.
    """

    aws: EmbeddedAws
    material: Material
    objects: Selection
    timeout_seconds: int
    build: Path

    def stack(self, name: str) -> DeployedStack:
        """A stack by its name."""
        return DeployedStack(self.aws, name)
