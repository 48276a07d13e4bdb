"""What roles may do, and what they may not. The roles of functions are enforced in all other tests as well."""

from collections.abc import Mapping

from tests.end_to_end.distributed_map.account import Account
from tests.end_to_end.test_definition_on_embedded_aws import ALLOWED, DENIED, decided
from tests.end_to_end.test_definition_on_embedded_aws import Account as Deployment

OBJECTS, RESULTS, LISTS = (f"arn:aws:s3:::{{{bucket}}}" for bucket in ("ObjectsSource", "ObjectsResults", "Lists"))
RUN, CHILD, MAP_RUN = "{ObjectsRuns}:any", "{ObjectsRuns}/items:any", "{ObjectsMapRuns}/items:any"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:"


def test_a_state_machine_may_do_what_it_does_and_nothing_beside_it(account: Account) -> None:
    check(
        account,
        "ObjectsRole",
        {
            ("states:StartExecution", "{ObjectsMachine}"): ALLOWED,
            ("states:StartExecution", "{LinesMachine}"): DENIED,
            ("states:DescribeExecution", RUN): ALLOWED,
            ("states:StopExecution", RUN): ALLOWED,
            ("states:RedriveExecution", CHILD): ALLOWED,
            ("states:RedriveExecution", RUN): DENIED,
            ("lambda:InvokeFunction", "{Work}"): ALLOWED,
            ("lambda:InvokeFunction", FUNCTION + "{ObjectsPlan}"): ALLOWED,
            ("lambda:InvokeFunction", FUNCTION + "{ObjectsOperate}"): DENIED,
            ("s3:GetObject", f"{RESULTS}/runs/any/items.jsonl"): ALLOWED,
            ("s3:PutObject", f"{RESULTS}/runs/any/map/manifest.json"): ALLOWED,
            ("s3:PutObject", f"{RESULTS}/elsewhere"): DENIED,
            ("s3:DeleteObject", f"{RESULTS}/runs/any/items.jsonl"): DENIED,
            # It is the work that reads these.
            ("s3:GetObject", f"{OBJECTS}/in/2026/01/01/a.csv"): DENIED,
        },
    )
    list_, inventory = f"{LISTS}/lists/2026-01-01.jsonl", f"{LISTS}/inventory/data/1.csv.gz"
    read = "s3:GetObject"
    check(account, "LinesRole", {(read, list_): ALLOWED, (read, inventory): DENIED, (read, f"{LISTS}/a"): DENIED})
    check(account, "InventoryRole", {(read, list_): DENIED, (read, inventory): ALLOWED})


def test_functions_may_do_what_they_do_and_nothing_beside_it(account: Account) -> None:
    plan, accounting, operate = "ObjectsPlanRole", "ObjectsAccountRole", "ObjectsOperateRole"
    listing = ("s3:ListBucket", OBJECTS)
    check(account, plan, {listing: ALLOWED}, {"s3:prefix": "in/2026/01/01/"})
    check(account, plan, {listing: DENIED}, {"s3:prefix": "private/"})
    for role in (plan, accounting):
        check(
            account,
            role,
            {
                ("s3:GetObject", f"{RESULTS}/runs/any/failed.jsonl"): ALLOWED,
                ("s3:PutObject", f"{RESULTS}/runs/any/summary.json"): ALLOWED,
                ("s3:PutObject", f"{RESULTS}/elsewhere"): DENIED,
                ("s3:GetObject", f"{OBJECTS}/in/2026/01/01/a.csv"): DENIED,
                ("states:DescribeExecution", RUN): ALLOWED,
                ("states:DescribeMapRun", MAP_RUN): ALLOWED,
                ("states:StartExecution", "{ObjectsMachine}"): DENIED,
                ("states:UpdateMapRun", MAP_RUN): DENIED,
            },
        )
    check(
        account,
        operate,
        {
            ("states:StartExecution", "{ObjectsMachine}"): ALLOWED,
            ("states:StartExecution", "{LinesMachine}"): DENIED,
            ("states:RedriveExecution", RUN): ALLOWED,
            ("states:UpdateMapRun", MAP_RUN): ALLOWED,
            ("states:UpdateMapRun", "{ObjectsMapRuns}/other:any"): DENIED,
            ("states:StopExecution", RUN): DENIED,
            ("s3:GetObject", f"{RESULTS}/runs/any/summary.json"): ALLOWED,
            ("s3:PutObject", f"{RESULTS}/runs/any/summary.json"): DENIED,
        },
    )


def test_the_keys_of_buckets_are_for_those_who_read_or_write_there(account: Account) -> None:
    for role, of_rows, of_results in (
        ("RowsRole", {"kms:Decrypt"}, {"kms:Decrypt", "kms:GenerateDataKey"}),
        ("RowsPlanRole", {"kms:Decrypt"}, {"kms:Decrypt", "kms:GenerateDataKey"}),
        ("RowsAccountRole", set(), {"kms:Decrypt", "kms:GenerateDataKey"}),
        ("RowsOperateRole", set(), {"kms:Decrypt"}),
        ("ObjectsRole", set(), set()),
    ):
        for key, wanted in (("{RowsKey}", of_rows), ("{RowsResultsKey}", of_results)):
            actions = ("kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt")
            check(account, role, {(action, key): ALLOWED if action in wanted else DENIED for action in actions})


def check(
    account: Account, role: str, expected: Mapping[tuple[str, str], str], context: Mapping[str, str] | None = None
) -> None:
    """What IAM decides on actions of a role, each with a resource; outputs of the stack stand in braces."""
    runs = {
        f"Objects{name}": account.outputs["ObjectsMachine"].replace(":stateMachine:", f":{kind}:")
        for name, kind in (("Runs", "execution"), ("MapRuns", "mapRun"))
    }
    deployment = Deployment(account.aws, {**account.outputs, **runs})
    found = {
        (action, resource): decided(deployment, role, action, resource, context or {}) for action, resource in expected
    }
    assert found == dict(expected), role
