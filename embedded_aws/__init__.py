"""An AWS account on this machine for the demo and the tests. Not part of the published library."""

from embedded_aws.emulator import EmbeddedAws, EmbeddedAwsError
from embedded_aws.launches import Launch, LaunchFault
from embedded_aws.requests import RequestFault

__all__ = ["EmbeddedAws", "EmbeddedAwsError", "Launch", "LaunchFault", "RequestFault"]
