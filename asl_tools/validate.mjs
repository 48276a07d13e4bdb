// Validates definitions with asl-validator. JSON in on stdin: a list of definitions. JSON out on stdout: for
// each the list of its problems. validate.py says more.

import { readFileSync } from "node:fs";
import validate from "asl-validator";

// It takes a whole stand-in for a resource, but not an ARN with a stand-in for the account or the partition.
const wholeStandIn = (key, value) =>
  key === "Resource" && typeof value === "string" && value.includes("${") ? "${Resource}" : value;

const problems = JSON.parse(readFileSync(0, "utf8"), wholeStandIn).map((definition) => {
  const { isValid, errorsText } = validate(definition);
  return isValid ? [] : errorsText("\n").split("\n");
});
process.stdout.write(JSON.stringify(problems));
