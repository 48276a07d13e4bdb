"""ARNs in the spelling of cdk-nag."""

import aws_cdk as cdk

from constructs_lib.parts.acknowledgements import as_in_findings


def test_references_are_written_in_angle_brackets(stack: cdk.Stack) -> None:
    bucket = cdk.aws_s3.CfnBucket(stack, "Bucket")
    arn = cdk.Fn.join("", ["arn:", cdk.Aws.PARTITION, ":s3:::", bucket.ref, "/", bucket.attr_domain_name, "/*"])
    assert as_in_findings(stack, arn) == "arn:<AWS::Partition>:s3:::<Bucket>/<Bucket.DomainName>/*"


def test_text_stays_text(stack: cdk.Stack) -> None:
    assert as_in_findings(stack, "arn:aws:s3:::a/*") == "arn:aws:s3:::a/*"
