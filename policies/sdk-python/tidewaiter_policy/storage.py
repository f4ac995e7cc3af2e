"""The model stores of the cluster, inside what the object's namespace may use. Names and answers, never a secret.

All calls of one review share one time budget (2 s unless the admin says otherwise).
"""

from dataclasses import dataclass
from typing import Any, List, Optional, Union

from ._host import interface

_raw = interface("storage")


@dataclass(frozen=True)
class Served:
    """A backend that serves a URI for this namespace."""

    #: The StorageBackend's name.
    backend: str
    #: `s3`, `gcs`, `azure`, `huggingface`, `https`, `hdfs`.
    kind: str
    #: `annotation`, `service-account` or `storage-key`.
    delivery: str
    #: Nothing needs to be delivered.
    anonymous: bool
    #: The name that the Secret with its credentials has, or will have, in this namespace.
    secret: str
    service_account: str
    storage_key: str


@dataclass(frozen=True)
class OwnSecret:
    """The namespace has its own Secret for this URI."""

    secret: str


@dataclass(frozen=True)
class NotGranted:
    """A backend serves the URI, but not for this namespace."""

    backend: str
    #: The prefixes that this namespace may use on that backend.
    allowed: List[str]
    contact: Optional[str]


@dataclass(frozen=True)
class Unusable:
    """A backend serves the URI, but nobody can use it until its admin has mended it."""

    backend: str
    reason: str
    contact: Optional[str]


@dataclass(frozen=True)
class Unserved:
    """No backend serves the URI."""


@dataclass(frozen=True)
class NoCredentials:
    """Not a URI that needs or can have credentials here (`pvc:`, `oci:`)."""


@dataclass(frozen=True)
class Unsupported:
    """KServe can't load the URI; why, and what to write instead."""

    reason: str


Resolution = Union[Served, OwnSecret, NotGranted, Unusable, Unserved, NoCredentials, Unsupported]


@dataclass(frozen=True)
class Brought:
    """What the user brought along."""

    #: `nothing`, `usable`, `missing`, `managed` or `unknown`.
    what: str
    #: What is usable, missing or unknown; None for the others.
    detail: Optional[str] = None
    #: For `managed`: names of Secrets that Tidewaiter itself keeps in the namespace.
    secrets: tuple = ()


@dataclass(frozen=True)
class ObjectInfo:
    #: Relative to the URI that was asked for; empty for the object itself.
    path: str
    #: Bytes.
    size: int


@dataclass(frozen=True)
class Listing:
    objects: List[ObjectInfo]
    #: There is more than was listed.
    truncated: bool


class StorageError(Exception):
    """A store's answer that isn't the one asked for. `code`: `not-found`, `forbidden`, `unreachable`, `unserved` or `too-large`."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


def resolve(uri: str) -> Resolution:
    """Which backend serves this URI for the object's namespace."""
    found = _raw.resolve(uri)
    case = _case(found)
    value = getattr(found, "value", None)
    if case == "served":
        return Served(**{**vars(value), "delivery": value.delivery.name.lower().replace("_", "-")})
    if case in ("not-granted", "unusable"):
        return (NotGranted if case == "not-granted" else Unusable)(**vars(value))
    if case == "own-secret":
        return OwnSecret(value)
    if case == "unsupported":
        return Unsupported(value)
    return Unserved() if case == "unserved" else NoCredentials()


def secret_annotation() -> Optional[str]:
    """The annotation by which KServe is told the name of a Secret; None where KServe's configuration names none."""
    return _raw.secret_annotation()


def brought_credentials(service_account: Optional[str] = None, secret: Optional[str] = None) -> Brought:
    """Whether the user brought credentials: by the Secret they name, else by the ServiceAccount they name, else by the namespace's `default`."""
    found = _raw.brought_credentials(service_account, secret)
    case = _case(found)
    if case == "managed":
        return Brought(case, None, tuple(found.value))
    return Brought(case, getattr(found, "value", None))


def stat(uri: str) -> ObjectInfo:
    """The object at exactly this URI. Raises StorageError."""
    found = _asked(uri, _raw.stat, uri)
    return ObjectInfo(found.path, found.size)


def list_objects(uri: str, limit: int = 1000) -> Listing:
    """The objects below this URI, in the order of their names; at most `limit`, and never more than 1,000. Raises StorageError."""
    return _listing(_asked(uri, _raw.list_objects, uri, limit))


def list_folder(uri: str, limit: int = 1000) -> Listing:
    """What stands directly in this folder; a folder in it has a path that ends in `/`, and the size 0. Raises StorageError."""
    return _listing(_asked(uri, _raw.list_folder, uri, limit))


def read(uri: str, offset: int = 0, length: int = 1 << 20) -> bytes:
    """`length` bytes from `offset`, fewer at the end of the object; at most 1 MiB a call. Raises StorageError."""
    return bytes(_asked(uri, _raw.read, uri, offset, length))


def _listing(raw: Any) -> Listing:
    return Listing([ObjectInfo(one.path, one.size) for one in raw.objects], raw.truncated)


def _case(variant: Any) -> str:
    """The case of a variant, as the contract writes it: the bindings call the class `Resolution_OwnSecret`."""
    name = type(variant).__name__.partition("_")[2]
    return "".join("-" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("-")


def _asked(uri: str, call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        if not hasattr(error, "value"):
            raise
        code = _case(error.value)
        more = getattr(error.value, "value", None)
        said = f"{uri}: {code.replace('-', ' ')}" + ("" if more is None else f": {more}")
        raise StorageError(code, said) from None
