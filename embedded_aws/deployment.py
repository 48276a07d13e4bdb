"""Deploys a synthesized stack without the CDK's CLI: what `cdk bootstrap` and `cdk deploy` do, in a second or two."""

import io
import json
import time
import zipfile
from pathlib import Path

from embedded_aws.emulator import EmbeddedAws, EmbeddedAwsError

_DEPLOYED_WITHIN = 120  # seconds
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]


def deploy(aws: EmbeddedAws, assembly: Path, stack: str) -> dict[str, str]:
    """Deploys one stack and returns its outputs, by names without the suffix `Output`.

    (A construct cannot have the name of another in the same scope, so an output is called `MachineOutput`.)

    Args:
        aws: Where to.
        assembly: The folder that `app.synth()` wrote.
        stack: The stack's artifact id, which is its name unless it is in a stage.

    Raises:
        EmbeddedAwsError: the deployment failed; with the reasons.
    """
    artifact = json.loads((assembly / "manifest.json").read_text())["artifacts"][stack]["properties"]
    _bootstrap(aws)
    template = _upload_assets(aws, assembly, stack, artifact["templateFile"])
    formation = aws.client("cloudformation")
    name = artifact.get("stackName", stack)
    formation.create_stack(StackName=name, TemplateURL=template, Capabilities=_CAPABILITIES)
    deadline = time.monotonic() + _DEPLOYED_WITHIN
    while True:
        [made] = formation.describe_stacks(StackName=name)["Stacks"]
        if made["StackStatus"] == "CREATE_COMPLETE":
            return {one["OutputKey"].removesuffix("Output"): one["OutputValue"] for one in made.get("Outputs", [])}
        if not made["StackStatus"].endswith("_IN_PROGRESS") or time.monotonic() > deadline:
            events = formation.describe_stack_events(StackName=name)["StackEvents"]
            reasons = {event["ResourceStatusReason"] for event in events if event.get("ResourceStatusReason")}
            raise EmbeddedAwsError(f"the deployment of {name} is {made['StackStatus']}: {'; '.join(sorted(reasons))}")
        time.sleep(0.1)


def _bootstrap(aws: EmbeddedAws) -> None:
    aws.client("ssm").put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Type="String", Value="30", Overwrite=True)


def _upload_assets(aws: EmbeddedAws, assembly: Path, stack: str, template_file: str) -> str:
    """Uploads what the stack needs, its template included, whose address is returned."""
    storage = aws.client("s3")
    address = ""
    for asset in json.loads((assembly / f"{stack}.assets.json").read_text())["files"].values():
        path = assembly / asset["source"]["path"]
        content = _zipped(path) if asset["source"]["packaging"] == "zip" else path.read_bytes()
        [destination] = asset["destinations"].values()
        bucket, key = (_resolved(aws, destination[name]) for name in ("bucketName", "objectKey"))
        storage.create_bucket(Bucket=bucket)
        storage.put_object(Bucket=bucket, Key=key, Body=content)
        if path.name == template_file:
            address = f"{aws.endpoint}/{bucket}/{key}"
    return address


def _resolved(aws: EmbeddedAws, text: str) -> str:
    return text.replace("${AWS::AccountId}", aws.account).replace("${AWS::Region}", aws.region)


def _zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return content.getvalue()
