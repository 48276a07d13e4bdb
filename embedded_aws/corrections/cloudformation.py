"""AWS CloudFormation: resource types that stock MiniStack refuses, and with them the whole stack.

Document: CloudFormation Template Reference, one page per type.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import ecs
from ministack.services import stepfunctions as sfn
from ministack.services.cloudformation import provisioners

from embedded_aws.corrections.registry import StaleCorrectionError

Properties = Mapping[str, Any]


def _flow_log(properties: Properties) -> str:
    """There is no network whose traffic could be logged: accepted, nothing else."""
    return f"fl-{new_uuid().replace('-', '')[:17]}"


def _capacity_provider_associations(properties: Properties) -> str:
    ecs._put_cluster_capacity_providers(
        {
            "cluster": properties["Cluster"],
            "capacityProviders": properties["CapacityProviders"],
            "defaultCapacityProviderStrategy": sfn._pascal_to_camel(properties["DefaultCapacityProviderStrategy"]),
        }
    )
    return str(properties["Cluster"])


CREATE: dict[str, Callable[[Properties], str]] = {
    "AWS::EC2::FlowLog": _flow_log,
    "AWS::ECS::ClusterCapacityProviderAssociations": _capacity_provider_associations,
}
"""What makes a resource and returns its physical id. Nothing is left to delete apart from its owner."""


def _provisioner(make: Callable[[Properties], str]) -> dict[str, Callable[..., Any]]:
    def create(logical_id: str, properties: Properties, stack_name: str) -> tuple[str, dict[str, str]]:
        physical_id = make(properties)
        return physical_id, {"Id": physical_id}

    def update(physical_id: str, old: Properties, new: Properties, *_: Any) -> tuple[str, dict[str, str]]:
        return physical_id, {"Id": physical_id}

    def delete(physical_id: str, properties: Properties) -> None:
        return

    return {"create": create, "update": update, "delete": delete}


for resource_type, make in CREATE.items():
    if resource_type in provisioners._RESOURCE_HANDLERS:
        raise StaleCorrectionError(f"MiniStack accepts {resource_type} by itself")
    provisioners._RESOURCE_HANDLERS[resource_type] = _provisioner(make)
