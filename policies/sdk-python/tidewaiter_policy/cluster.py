"""The cluster around the object."""

import json
from typing import Any, Dict, List, Optional

from ._host import interface

_raw = interface("cluster")


class ClusterError(Exception):
    """What can't be read, and why: one line."""


def namespace_labels() -> Dict[str, str]:
    """Labels of the object's namespace."""
    return {label.key: label.value for label in _raw.namespace_labels()}


def node_architectures() -> List[str]:
    """The architectures of the cluster's nodes, as in `kubernetes.io/arch`, sorted, each once."""
    return list(_raw.node_architectures())


def get_object(api_version: str, kind: str, name: str) -> Optional[Dict[str, Any]]:
    """An object of a kind that the WasmPolicy declares in `spec.objects`, from the object's namespace (or cluster-scoped). Never a Secret.

    Raises ClusterError where it can't be read.
    """
    text = _asked(_raw.get_object, api_version, kind, name)
    return None if text is None else json.loads(text)


def list_objects(api_version: str, kind: str) -> List[Dict[str, Any]]:
    """All objects of such a kind, in the order of their names; at most 100, and 1 MiB in all.

    Raises ClusterError where they can't be read, or there are more.
    """
    return [json.loads(text) for text in _asked(_raw.list_objects, api_version, kind)]


def kserve_config(key: str) -> Any:
    """One key of KServe's ConfigMap `inferenceservice-config`, such as `deploy`; None where it isn't known."""
    text = _raw.kserve_config(key)
    return None if text is None else json.loads(text)


def _asked(call: Any, *arguments: str) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        # The bindings raise the contract's error as it is: a sentence.
        if hasattr(error, "value"):
            raise ClusterError(str(error.value)) from None
        raise
