// Runs state machines with aws-local-stepfunctions. JSON in on stdin: a list of runs. JSON out on stdout: for each
// its outcome, or the mistake in its script. second_interpreter.py says what they mean.

import { readFileSync } from "node:fs";
import { StateMachine } from "aws-local-stepfunctions";

// AWS: "States.ALL" catches every error but these two, and nothing else catches them either.
const NEVER_CAUGHT = ["States.Runtime", "States.DataLimitExceeded"];
const MOST_STATES = 2000;

// Every sleep ends at once. The interpreter's other timers are time-outs: those of the definition have been taken
// out before, and the default one of a task is always later than a scripted result.
const realSetTimeout = globalThis.setTimeout;
globalThis.setTimeout = (callback, _milliseconds, ...args) => realSetTimeout(callback, 0, ...args);

// "States.TaskFailed" matches every error but a time-out, which the interpreter recognises by a class it does not
// export: so make it raise one.
const TimeoutError = await new StateMachine(
  { StartAt: "Hang", States: { Hang: { Type: "Task", Resource: "none", End: true } } },
  { validationOptions: { noValidate: true } },
)
  .run({}, { overrides: { taskResourceLocalHandlers: { Hang: () => new Promise(() => {}) } } })
  .result.catch((failed) => failed.cause.constructor);

function awsError({ name, cause }) {
  const error = name === "States.Timeout" ? new TimeoutError() : new Error();
  const caught = !NEVER_CAUGHT.includes(name);
  Object.defineProperties(error, {
    name: { value: name },
    message: { value: cause },
    isRetryable: { value: caught },
    isCatchable: { value: caught },
  });
  return error;
}

async function run({ definition, input, context, tasks }) {
  const inputs = {};
  const states = [];
  let mistake = null;

  const answer = (name) => async (payload) => {
    inputs[name] = [...(inputs[name] ?? []), structuredClone(payload)];
    const next = tasks[name][inputs[name].length - 1];
    if (next === undefined) {
      mistake ??= `"${name}" was called ${inputs[name].length} times, results were given for ${tasks[name].length}`;
      throw awsError({ name: "States.Runtime", cause: mistake });
    }
    if ("value" in next) return structuredClone(next.value);
    throw awsError(next);
  };

  const execution = new StateMachine(definition, { validationOptions: { noValidate: true } }).run(input, {
    context,
    overrides: {
      taskResourceLocalHandlers: Object.fromEntries(Object.keys(tasks).map((name) => [name, answer(name)])),
    },
  });
  const result = execution.result.then(
    (output) => ({ status: "SUCCEEDED", output, error: null, cause: null }),
    ({ cause: failure }) => ({ status: "FAILED", output: null, error: failure?.name, cause: failure?.message }),
  );
  for await (const event of execution.eventLogs) {
    if (event.type !== "StateEntered") continue;
    states.push({ name: event.state.name, input: structuredClone(event.state.input) });
    if (states.length > MOST_STATES) {
      mistake ??= `it entered more than ${MOST_STATES} states: it seems to run in a circle`;
      execution.abort();
    }
  }
  const ending = await result;
  return mistake === null ? { ...ending, states, inputs } : { mistake };
}

const outcomes = [];
for (const one of JSON.parse(readFileSync(0, "utf8"))) outcomes.push(await run(one));
process.stdout.write(JSON.stringify(outcomes));
