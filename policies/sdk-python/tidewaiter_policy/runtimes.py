"""The serving runtimes of the cluster, and what is known of their images."""

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from ._host import interface

_raw = interface("runtimes")


@dataclass(frozen=True)
class Runtime:
    """A ServingRuntime or ClusterServingRuntime that supports a model format."""

    name: str
    #: The image of the model server's container without tag or digest.
    repository: str
    #: Empty where the image is given by digest.
    tag: str
    #: Empty where the image is given by tag.
    digest: str
    #: `v1`, `v2`, `grpc-v1`, `grpc-v2`.
    protocols: List[str]
    #: KServe may pick it for this format when the service names none.
    auto_select: bool
    disabled: bool


@dataclass(frozen=True)
class PackageVersion:
    """A version, or where `exact` is false what is known of it, such as `>=2.0,<3`."""

    name: str
    version: str
    exact: bool


@dataclass(frozen=True)
class Release:
    """A release of an image."""

    tag: str
    #: Such as `3.11`; empty where unknown.
    python: str
    #: Of the packages that were asked for, those that the image holds.
    packages: List[PackageVersion]
    #: As in `kubernetes.io/arch`; empty where unknown.
    architectures: List[str]


def supporting(format: str, version: Optional[str] = None) -> List[Runtime]:
    """The runtimes that support a format in the object's namespace, in the order in which KServe tries them.

    KServe picks the first that is not disabled, may be auto-selected, and speaks the service's protocol (`v1` where none is set).
    """
    return [Runtime(**vars(one)) for one in _raw.supporting(format, version)]


def named(name: str) -> Optional[Runtime]:
    """The runtime by this name that the object's namespace sees."""
    found = _raw.named(name)
    return None if found is None else Runtime(**vars(found))


def spec(name: str) -> Optional[Dict[str, Any]]:
    """The `spec` of that runtime: containers with their ports and resources, nodeSelector, tolerations."""
    text = _raw.spec(name)
    return None if text is None else json.loads(text)


def release_of(repository: str, tag: str, packages: Sequence[str] = ()) -> Optional[Release]:
    """The release of an image by its tag, with the versions of these packages (names as on PyPI); None where the catalogue doesn't know it."""
    found = _raw.release_of(repository, tag, list(packages))
    return None if found is None else _release(found)


def releases(repository: str, packages: Sequence[str] = ()) -> List[Release]:
    """The releases of an image that the catalogue knows, oldest first."""
    return [_release(one) for one in _raw.releases(repository, list(packages))]


def lacking(repository: str, packages: Sequence[str]) -> List[str]:
    """Of these packages, those that images of this repository are known to be without."""
    return list(_raw.lacking(repository, list(packages)))


def _release(raw: Any) -> Release:
    packages = [PackageVersion(**vars(one)) for one in raw.packages]
    return Release(raw.tag, raw.python, packages, list(raw.architectures))
