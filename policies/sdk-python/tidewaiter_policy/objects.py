"""The object under review: the part of an InferenceService that policies look at, typed; all the rest is there too.

It is what somebody wrote, so any member may be missing. Fields: KServe's API reference, `serving.kserve.io/v1beta1`.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, TypedDict


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


class ModelUri(NamedTuple):
    """Where a model lies, as somebody wrote it, and a JSON Pointer to the field that says so."""

    uri: str
    path: str


#: Fields that say how a component is implemented; the first one counts.
_IMPLEMENTATIONS = (
    "model",
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
    "art",
)


def model_uris(value: Any) -> List[ModelUri]:
    """Where the models lie that a service loads, in all the shapes that KServe 0.15 to 0.20 has: `model` and the older `sklearn` and others, `storageUris`, the
    variable `STORAGE_URI` of a container of the user's own, canaries, and an LLMInferenceService's model and adapters. What is empty or no text is left out. A `storage`
    without a URI names its place by a key in a Secret, and isn't here.
    """
    return [ModelUri(uri, path) for path in _uri_paths(value) if (uri := _text(value, path))]


def _text(value: Any, path: str) -> str:
    text = at(value, path)
    return text if isinstance(text, str) else ""


def _items(value: Any, path: str) -> List[Tuple[str, Any]]:
    items = at(value, path)
    return [(f"{path}/{index}", item) for index, item in enumerate(items)] if isinstance(items, list) else []


def _uri_paths(value: Any) -> Iterator[str]:
    if at(value, "/kind") == "LLMInferenceService":
        yield "/spec/model/uri"
        yield from (f"{path}/uri" for path, _ in _items(value, "/spec/model/lora/adapters"))
        return
    canaries = [f"{path}/predictor" for path, _ in _items(value, "/spec/canary")]
    for component in ["/spec/predictor", "/spec/transformer", "/spec/explainer", *canaries]:
        fields = (f"{component}/{field}" for field in _IMPLEMENTATIONS)
        implementation = next((path for path in fields if isinstance(at(value, path), dict)), None)
        if implementation is not None:
            yield f"{implementation}/storageUri"
        elif container := _server(_items(value, f"{component}/containers"), component.endswith("/predictor")):
            variables = (path for path, variable in _items(value, f"{container}/env") if at(variable, "/name") == "STORAGE_URI")
            yield from (f"{path}/value" for path in [next(variables, None)] if path is not None)
        yield from (f"{path}/uri" for path, _ in _items(value, f"{component}/storageUris"))


def _server(containers: List[Tuple[str, Any]], predictor: bool) -> Optional[str]:
    """The container that KServe takes for the server: a predictor's by its name, or the only one, or the first where it has no name; else the first."""
    named = [path for path, container in containers if at(container, "/name") == "kserve-container"]
    if predictor and named:
        return named[0]
    if not containers or predictor and len(containers) > 1 and _text(containers[0][1], "/name"):
        return None
    return containers[0][0]
