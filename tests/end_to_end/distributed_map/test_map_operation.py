"""What operators do, and what maps share with the rest: the error spool, the semaphore, containers."""

import json

from tests.end_to_end.distributed_map.account import LIMIT, TARGET, Account, names, peak
from tests.end_to_end.semaphore.account import Account as Semaphores
from tests.end_to_end.test_definition_on_embedded_aws import eventually


def test_a_run_is_changed_while_it_is_under_way(account: Account, day: str) -> None:
    objects = account.map("Objects")
    failing, held = ["2 broken.csv", "3 broken.csv"], [f"{number} held.csv" for number in (0, 1, 4, 5, 6)]
    run = objects.start(objects.offer(day, [*failing, *held]))
    objects.wait_for_children(run, running=LIMIT)
    [running] = objects.operate(action="status")["running"]
    assert running["execution"] == run
    [map_run] = running["mapRuns"]
    assert (map_run["maxConcurrency"], map_run["items"]["total"]) == (LIMIT, 7)

    changed = objects.operate(action="update", execution=run, maxConcurrency=4, toleratedFailureCount=2)
    assert [one["execution"] for one in changed["updated"]] == [run]
    objects.wait_for_children(run, failed=2, running=4, pending=1)
    account.release(day)
    ended = objects.ended(run)
    assert names(account.done(day)) == dict.fromkeys([*failing, *held], 1)
    # It went on to its end, and is judged by what was changed.
    assert ended["status"] == "SUCCEEDED"
    assert objects.counts(run) == {"total": 7, "succeeded": 5, "failed": 2}
    assert objects.operate(action="status")["running"] == []
    assert "has no map under way" in objects.operate(action="update", execution=run, maxConcurrency=4)["error"]


def test_failed_items_go_into_the_spool_and_come_back_alone(account: Account, day: str) -> None:
    given = account.map("Given")
    run = given.run(day, "a", "b once", "c", "d once")["executionArn"]
    assert given.describe(run)["error"] == "ItemsFailed"
    assert "2 of 4 items failed" in given.told(run)
    eventually(lambda: account.in_queue("Spool") == 1, "the failure in the spool")
    before = set(given.runs())
    answer = account.call("Reprocessor", {"action": "reprocess"})
    assert (answer["found"], answer["chosen"]) == (1, 1), answer
    [again] = set(given.runs()) - before
    assert given.ended(again)["status"] == "SUCCEEDED"
    assert json.loads(given.describe(again)["input"]) == {"rerun": {"execution": run}}
    assert names(account.done(day)) == {"a": 1, "b once": 2, "c": 1, "d once": 2}
    assert given.counts(again) == {"total": 2, "succeeded": 2}
    assert account.in_queue("Spool") == 0


def test_children_share_a_limit_and_what_aborted_ones_held_comes_back(account: Account, day: str) -> None:
    guarded, quota = account.map("Guarded"), Semaphores(account.aws, account.outputs, "Quota")
    items = [f"{number} held" for number in range(2 * LIMIT)]
    run = guarded.start(guarded.offer(day, items))
    quota.wait_for("default", inUse=LIMIT, waiting=len(items) - LIMIT)
    account.aws.client("stepfunctions").stop_execution(executionArn=run)
    assert f"0 of {len(items)} items failed (allowed: 0), {len(items)} were stopped." in guarded.told(run)
    # A function that was called goes on, and its permit is kept as long.
    assert quota.usage("default")["inUse"] == LIMIT
    account.release(day)
    eventually(lambda: len(account.done(day)) == LIMIT, "the end of these functions")
    for _ in range(2):
        quota.sweep_old("default")
    quota.everything_given_back("default")

    # Redriven, they would go on without a permit.
    operator, again = guarded.rerun(run)
    assert (operator["mode"], again["status"]) == ("restart", "SUCCEEDED")
    done = account.done(day)
    assert set(names(done)) == set(items)
    assert len(done) == len(items) + LIMIT
    assert peak(done) == LIMIT
    quota.everything_given_back("default")


def test_an_item_that_fails_with_a_permit_gives_it_back_and_is_run_again(account: Account, day: str) -> None:
    guarded, quota = account.map("Guarded"), Semaphores(account.aws, account.outputs, "Quota")
    run = guarded.run(day, "a once")["executionArn"]
    assert "Lambda ValueError: cannot read a once" in guarded.told(run)
    quota.everything_given_back("default")
    operator, again = guarded.rerun(run)
    assert (operator["mode"], again["status"]) == ("restart", "SUCCEEDED")
    assert names(account.done(day)) == {"a once": 2}


def test_a_container_is_told_of_its_item_and_its_failure_is_that_of_ecs(account: Account, day: str) -> None:
    containers = account.map("Tasks")
    name = 'two words, 100%, "$HOME", 請求書 🎉'
    run = containers.run(day, name)
    assert run["status"] == "SUCCEEDED", run
    [said] = containers.said()
    assert json.loads(said["ITEM"]) == {"id": name, "colour": "red"}
    assert json.loads(said["RUN"])["date"] == day
    assert json.loads(said["CONSTANTS"]) == {"target": TARGET}

    run = containers.run(day, "broken")
    told = containers.told(run["executionArn"])
    [group] = containers.summary(run["executionArn"])["groups"]
    assert (group["side"], group["samples"]) == ("ECS", ["broken"])
    assert "1 of 1 items failed" in told
    assert "exit code 3" in told
