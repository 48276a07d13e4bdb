"""The reprocessor in a world where everything goes wrong: each failure is run again once, or is still there."""

import json
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.lambda_src.spool.world import QUARANTINE, SPOOL, World, inputs

UNREADABLE = ("not ours", '{"schemaVersion": 2, "input": {}}', "[" * 5000, '{"schemaVersion": 1}', '"text"', "{}")


class Turmoil(RuleBasedStateMachine):
    """Things happen in any order, between any two requests of any reprocessor."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(Random(seed))

    # --- executions -------------------------------------------------------------------------------------------------

    @rule(caught=st.booleans(), copies=st.integers(1, 2))
    @precondition(lambda self: len(self.world.failures) < 15)
    def an_execution_fails(self, caught: bool, copies: int) -> None:
        self.world.fail(self.world.begin(), caught=caught, copies=copies)

    @rule(data=st.data(), succeeds=st.booleans(), caught=st.booleans())
    @precondition(lambda self: any(each.status == "RUNNING" for each in self.world.executions.values()))
    def one_that_was_started_again_ends(self, data: st.DataObject, succeeds: bool, caught: bool) -> None:
        running = [each for each in self.world.executions.values() if each.status == "RUNNING"]
        execution = data.draw(st.sampled_from(running))
        if succeeds:
            self.world.succeed(execution)
        else:
            self.world.fail(execution, caught=caught)

    @rule(data=st.data())
    @precondition(lambda self: self.world.executions)
    def an_execution_becomes_too_old(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(list(self.world.executions.values()))).redrivable = False

    @rule(throttled=st.booleans())
    def step_functions_is_busy(self, throttled: bool) -> None:
        self.world.throttled = throttled

    # --- queues -----------------------------------------------------------------------------------------------------

    @rule(body=st.sampled_from(UNREADABLE))
    def a_message_arrives_that_is_not_ours(self, body: str) -> None:
        self.world.put_unreadable(body)

    @rule()
    def what_was_taken_is_seen_again(self) -> None:
        self.world.time_passes()

    @rule()
    @precondition(lambda self: self.world.number % 5 == 0)
    def the_spool_is_purged(self) -> None:
        self.world.purge()

    # --- reprocessors -----------------------------------------------------------------------------------------------

    @rule(mode=st.sampled_from(["restart", "redrive"]), ramp=st.integers(0, 2), most=st.sampled_from([1, 2, "all"]))
    @precondition(lambda self: len(self.world.actors) < 3)
    def a_reprocessor_begins(self, mode: str, ramp: int, most: object) -> None:
        self.world.call({"action": "reprocess", "max": most}, mode=mode, ramp=ramp)

    @rule(action=st.sampled_from(["park", "release"]), data=st.data())
    @precondition(lambda self: len(self.world.actors) < 3 and self.world.failures)
    def an_operator_moves_some(self, action: str, data: st.DataObject) -> None:
        events: dict[str, dict[str, Any]] = {
            "park": {"action": "park", "max": data.draw(st.integers(1, 3))},
            "release": {"action": "release", "all": True},
        }
        self.world.call(events[action])

    @rule(data=st.data())
    @precondition(lambda self: len(self.world.actors) < 3 and self.world.queues[QUARANTINE])
    def an_operator_drops_one(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from([id_ for id_, _ in self.world.failures] or ["none"]))
        self.world.call({"action": "drop", "id": id_, "confirm": True})

    @rule(data=st.data(), requests=st.integers(1, 12))
    @precondition(lambda self: self.world.actors)
    def a_reprocessor_goes_on(self, data: st.DataObject, requests: int) -> None:
        actor = data.draw(st.sampled_from(self.world.actors))
        for _ in range(requests):
            actor.step()
            self.world.check()
        if actor.ended:
            self.world.actors.remove(actor)

    @rule(data=st.data(), after=st.booleans())
    @precondition(lambda self: self.world.actors)
    def a_reprocessor_dies(self, data: st.DataObject, after: bool) -> None:
        actor = data.draw(st.sampled_from(self.world.actors))
        self.world.actors.remove(actor)
        actor.kill(after=after)

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def each_failure_is_run_again_once_or_is_still_there(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """When all is well again, nothing is left in the spool: a few runs bring it to its end."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.end()
        world.check()
        world.faults = world.throttled = False
        world.time_passes()
        world.run({"action": "reprocess", "max": "all"}, mode="redrive")
        world.run({"action": "reprocess", "max": "all"}, mode="redrive")
        world.check()
        assert world.bodies(SPOOL) == []


TestTurmoil = pytest.mark.filterwarnings("error")(Turmoil.TestCase)
TestTurmoil.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- every place to die, one after the other --------------------------------------------------------------------------


def prepared(*, caught: bool) -> World:
    """Seven failures, one of them twice in the queue, one that failed for the third time, and one that is not ours."""
    world = World(Random(1), faults=False)
    for number in range(7):
        world.fail(world.begin(), caught=caught, copies=2 if number == 3 else 1)
    execution = world.begin()
    execution.redrives = 2
    world.fail(execution, caught=caught)
    world.put_unreadable("not ours")
    return world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", ["restart", "redrive"])
def test_a_reprocessor_that_dies_at_any_request_loses_nothing_and_doubles_nothing(mode: str, after: bool) -> None:
    place = 0
    while True:
        world = prepared(caught=False)
        actor = world.call({"action": "reprocess", "max": "all"}, mode=mode, ramp=2)
        for _ in range(place):
            actor.step()
        if actor.ended:
            break
        actor.kill(after=after)
        world.actors.clear()
        world.check()

        world.time_passes()
        world.run({"action": "reprocess", "max": "all"}, mode=mode)

        world.check()
        assert sum(len(known.began) for known in world.failures.values()) == 7
        assert world.bodies(SPOOL) == []
        assert len(set(world.bodies(QUARANTINE))) == 2
        place += 1
    assert place > 20


@pytest.mark.parametrize("action", ["park", "release", "drop"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_operator_whose_request_dies_at_any_place_can_make_it_again(action: str, after: bool) -> None:
    place = 0
    while True:
        world = World(Random(1), faults=False)
        for _ in range(3):
            world.fail(world.begin(), caught=True)
        if action != "park":
            world.run({"action": "park", "max": "all"})
        (first, _), *_ = world.failures
        events: dict[str, dict[str, Any]] = {
            "park": {"action": "park", "max": "all"},
            "release": {"action": "release", "all": True},
            "drop": {"action": "drop", "id": first, "confirm": True},
        }
        event = events[action]
        actor = world.call(event)
        for _ in range(place):
            actor.step()
        if actor.ended:
            break
        actor.kill(after=after)
        world.actors.clear()
        world.check()

        world.time_passes()
        world.run(event)

        world.check()
        left = {"park": (0, 3), "release": (3, 0), "drop": (0, 2)}[action]
        assert (len(set(inputs(world, SPOOL))), len(set(inputs(world, QUARANTINE)))) == left
        world.run({"action": "reprocess", "max": "all"})
        world.run({"action": "release", "all": True})
        world.run({"action": "reprocess", "max": "all"})
        world.check()
        assert len(world.restarted()) == (2 if action == "drop" else 3)
        place += 1
    assert place >= 5


def test_two_reprocessors_that_take_turns_start_each_failure_once() -> None:
    for seed in range(20):
        world = prepared(caught=False)
        world.rng = Random(seed)
        modes = ("restart", "redrive") if seed % 2 else ("restart", "restart")
        world.call({"action": "reprocess", "max": "all"}, mode=modes[0])
        # It counts, and takes.
        world.actors[0].step()
        world.actors[0].step()
        assert all(letter.hidden for letter in world.queues[SPOOL].values())
        # All that the first one has is delivered once more.
        world.time_passes()
        world.call({"action": "reprocess", "max": "all"}, mode=modes[1])
        while running := [actor for actor in world.actors if not actor.ended]:
            world.rng.choice(running).step()
            world.check()

        assert [len(known.began) for known in world.failures.values()].count(1) == 7
        assert world.bodies(SPOOL) == []


def test_what_is_described_as_of_a_moment_ago_is_left_for_the_next_time() -> None:
    world = World(Random(1), faults=False)
    execution = world.begin()
    world.fail(execution, caught=False)
    execution.status = "RUNNING"

    assert world.run({"action": "reprocess"}, mode="redrive")["outcomes"] == {"not yet": 1}

    assert inputs(world, SPOOL) == ["o-1"]
    execution.status = "FAILED"
    assert world.run({"action": "reprocess"}, mode="redrive")["outcomes"] == {"redriven": 1}
    assert world.bodies(SPOOL) == []


def test_what_comes_or_fails_again_meanwhile() -> None:
    """What comes is run again by the same call; what that has run again is for the next one."""
    world = World(Random(1), faults=False)
    for _ in range(2):
        world.fail(world.begin(), caught=True)
    actor = world.call({"action": "reprocess", "max": "all"})
    while len(world.restarted()) < 2:
        actor.step()
    world.fail(world.executions[world.restarted()[0]], caught=True, error="Again")
    world.fail(world.begin(), caught=True)
    while not actor.ended:
        actor.step()
    world.actors.clear()

    world.check()
    assert (actor.answer["found"], actor.answer["outcomes"]) == (3, {"restarted": 3})
    assert [json.loads(body)["error"] for body in world.bodies(SPOOL)] == ["Again"]
    assert not any(letter.hidden for letter in world.queues[SPOOL].values())


def test_a_function_whose_time_is_over_gives_the_rest_back() -> None:
    world = World(Random(1), faults=False)
    for _ in range(25):
        world.fail(world.begin(), caught=True)
    world.throttled = True

    answer = world.run({"action": "reprocess", "max": "all"})

    assert "the function's time is over" in answer["stopped"]
    assert world.restarted() == []
    assert len(world.bodies(SPOOL)) == 25
    assert not any(letter.hidden for letter in world.queues[SPOOL].values())
    world.throttled = False
    assert world.run({"action": "reprocess", "max": "all"})["outcomes"] == {"restarted": 25}
