"""Where things lie in the results bucket. Pure."""

FOLDER = "runs/"
"""What is under it is nobody's item."""


class Layout:
    """The files of a run.

    Args:
        name: The execution's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = f"{FOLDER}{name}/"
        self.items = f"{self.folder}items.jsonl"
        self.plan = f"{self.folder}plan.json"
        self.results = f"{self.folder}map/"
        self.summary = f"{self.folder}summary.json"
        self.failures = f"{self.folder}failures.jsonl"
        self.notices = f"{self.folder}notices.jsonl"
        self.failed_rows = f"{self.folder}failed/items.csv.gz"

    def tail(self, number: int) -> str:
        """What a listing had read when its time was over, beyond the parts that it had sent."""
        return f"{self.folder}items.tail-{number}.jsonl"

    def failed(self, kind: str) -> str:
        """The failed items, in the format that the machine reads from a source of this kind."""
        endings = {"csv": "failed.csv", "json": "failed.json", "manifest": "failed/manifest.json"}
        return self.folder + endings.get(kind, "failed.jsonl")
