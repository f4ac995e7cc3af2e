"""The object under review: the part of an InferenceService that policies look at, typed; all the rest is there too.

It is what somebody wrote, so any member may be missing. Fields: KServe's API reference, `serving.kserve.io/v1beta1`.
"""

from typing import Any, Dict, List, TypedDict


class ObjectMeta(TypedDict, total=False):
    name: str
    generateName: str
    namespace: str
    labels: Dict[str, str]
    annotations: Dict[str, str]


class ResourceRequirements(TypedDict, total=False):
    """Quantities, such as "2Gi", or numbers as YAML has them."""

    requests: Dict[str, Any]
    limits: Dict[str, Any]


class ContainerPort(TypedDict, total=False):
    name: str
    containerPort: int
    protocol: str


class Container(TypedDict, total=False):
    name: str
    image: str
    args: List[str]
    command: List[str]
    env: List[Dict[str, Any]]
    ports: List[ContainerPort]
    resources: ResourceRequirements


class ModelFormat(TypedDict, total=False):
    name: str
    version: str


class StorageSpec(TypedDict, total=False):
    key: str
    path: str
    schemaPath: str
    parameters: Dict[str, str]


class Model(Container, total=False):
    """`spec.predictor.model`: a model for a serving runtime."""

    modelFormat: ModelFormat
    storageUri: str
    storage: StorageSpec
    runtime: str
    runtimeVersion: str
    protocolVersion: str


class Component(TypedDict, total=False):
    """What predictor, transformer and explainer have in common."""

    minReplicas: int
    maxReplicas: int
    scaleTarget: int
    scaleMetric: str
    containerConcurrency: int
    timeout: int
    canaryTrafficPercent: int
    serviceAccountName: str
    nodeSelector: Dict[str, str]
    tolerations: List[Dict[str, Any]]
    containers: List[Container]
    labels: Dict[str, str]
    annotations: Dict[str, str]


class Predictor(Component, total=False):
    model: Model


class InferenceServiceSpec(TypedDict, total=False):
    predictor: Predictor
    transformer: Component
    explainer: Component


class InferenceService(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: InferenceServiceSpec


def at(value: Any, pointer: str, default: Any = None) -> Any:
    """What stands at a JSON Pointer (RFC 6901); `default` where nothing does."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return default
    return value
