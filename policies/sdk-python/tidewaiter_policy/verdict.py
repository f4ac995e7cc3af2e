"""A policy's answer."""

import json
from typing import Any, List, Optional, Tuple

#: How credentials reach KServe's storage initializer.
DELIVERIES = ("annotation", "service-account", "storage-key")


class Verdict:
    """An answer that can be added to: `admit().fill(…).warn(…)`."""

    def __init__(self) -> None:
        #: Code, message, JSON Pointer.
        self.denial: Optional[Tuple[str, str, Optional[str]]] = None
        #: JSON Pointer, JSON text, reason.
        self.fills: List[Tuple[str, str, str]] = []
        self.warnings: List[str] = []
        #: Backend, delivery.
        self.credentials: List[Tuple[str, str]] = []

    def fill(self, path: str, value: Any, reason: str) -> "Verdict":
        """A value for a place that the user left empty.

        `path` is a JSON Pointer to a member of an object (missing parents are made); `reason` is for the user, at most 90 characters, without the value. A
        fill over a value of the user is dropped, with a warning.
        """
        self.fills.append((path, json.dumps(value, allow_nan=False), reason))
        return self

    def warn(self, line: str) -> "Verdict":
        """One line for the user, at most 120 characters."""
        self.warnings.append(line)
        return self

    def deny(self, code: str, message: str, path: Optional[str] = None) -> "Verdict":
        """Refuses the object. Of several denials the first counts.

        `code` is a word for machines in kebab case; `message` says what happened, to which part of the object, and what to do; `path` is a JSON Pointer
        to that part.
        """
        if self.denial is None:
            self.denial = (code, message, path)
        return self

    def need_credentials(self, backend: str, delivery: str = "annotation") -> "Verdict":
        """Asks for a backend's credentials in the object's namespace. Asking twice is asking once."""
        if delivery not in DELIVERIES:
            raise ValueError(f"{delivery!r} is no way to deliver credentials; it is one of {', '.join(DELIVERIES)}")
        if (backend, delivery) not in self.credentials:
            self.credentials.append((backend, delivery))
        return self


def admit() -> Verdict:
    """Admits the object and says nothing. Go on with `fill`, `warn` and the others."""
    return Verdict()


def deny(code: str, message: str, path: Optional[str] = None) -> Verdict:
    """Refuses the object: see `Verdict.deny`."""
    return Verdict().deny(code, message, path)
