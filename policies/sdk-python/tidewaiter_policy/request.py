"""What a policy is, and what it is asked."""

import inspect
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Callable, List, Optional, Sequence, Tuple, Type, cast

from . import settings as _settings
from .objects import InferenceService, at
from .verdict import Verdict, admit


@dataclass(frozen=True)
class Entry:
    """A place in the object (a JSON Pointer), and what stands there."""

    path: str
    value: Any


@dataclass(frozen=True)
class ObjectKind:
    """A kind of objects, such as `ObjectKind("v1", "ResourceQuota")`."""

    api_version: str
    kind: str


@dataclass
class Request:
    """One object to review. The JSON in it is read once it is looked at."""

    #: `create` or `update`. Deletions are never reviewed.
    operation: str
    #: Such as `serving.kserve.io/v1beta1`.
    api_version: str
    #: Such as `InferenceService`.
    kind: str
    namespace: str
    #: Empty where the API server is still to generate the name.
    name: str
    #: JSON text of `object`.
    object_text: str
    #: JSON text of `old_object`.
    old_object_text: Optional[str] = None
    #: Paths and JSON texts of `filled`.
    filled_texts: List[Tuple[str, str]] = field(default_factory=list)
    #: Paths that Tidewaiter filled in once and the user removed. A fill at or below one of them is dropped.
    withheld: List[str] = field(default_factory=list)
    #: Who sent the request, as the API server authenticated them.
    username: str = ""
    groups: List[str] = field(default_factory=list)

    @cached_property
    def object(self) -> InferenceService:
        """What its user wrote, and what policies before this one filled in during this review; without what Tidewaiter filled in at an earlier admission."""
        return cast(InferenceService, json.loads(self.object_text))

    @cached_property
    def old_object(self) -> Optional[InferenceService]:
        """On an update: the object as it is stored, with all that Tidewaiter filled in."""
        return None if self.old_object_text is None else cast(InferenceService, json.loads(self.old_object_text))

    @cached_property
    def filled(self) -> List[Entry]:
        """What Tidewaiter filled in at an earlier admission and nobody changed since. To keep an entry, fill it again."""
        return [Entry(path, json.loads(text)) for path, text in self.filled_texts]

    def at(self, pointer: str, default: Any = None) -> Any:
        """What stands at a JSON Pointer of the object; `default` where nothing does."""
        return at(self.object, pointer, default)


@dataclass(frozen=True)
class Policy:
    """A policy, as the decorator `policy` makes it."""

    name: str
    version: str
    summary: str
    review: Callable[..., Optional[Verdict]]
    settings: Optional[Type[Any]] = None
    objects: Sequence[ObjectKind] = ()
    check: Optional[Callable[[Any], None]] = None
    takes_settings: bool = True

    def schema_text(self) -> Optional[str]:
        """JSON Schema of the settings, as JSON text."""
        return None if self.settings is None else json.dumps(_settings.schema_of(self.settings))

    def settings_of(self, text: str) -> Any:
        """Settings from their JSON text; a plain `dict` where the policy has no class for them. Raises ValueError."""
        given = json.loads(text) if text.strip() else {}
        return _settings.build(self.settings, given or {}) if self.settings else given or {}

    def __call__(self, request: Request, settings: Any = None) -> Verdict:
        """The answer to one request; `settings` as `settings_of` has them. None of the function's own is to admit."""
        if settings is None:
            settings = self.settings_of("{}")
        verdict = self.review(request, settings) if self.takes_settings else self.review(request)
        return admit() if verdict is None else verdict


#: The policy of this component.
_made: List[Policy] = []


def policy(
    *,
    name: str,
    version: str,
    summary: str,
    settings: Optional[Type[Any]] = None,
    objects: Sequence[ObjectKind] = (),
    check: Optional[Callable[[Any], None]] = None,
) -> Callable[[Callable[..., Optional[Verdict]]], Policy]:
    """Makes a policy of `review(request)` or `review(request, settings)`. The same request, settings and answers of the world must give the same verdict.

    `name` is a DNS label, `version` the policy's own semantic version, `summary` one sentence. `settings` is a dataclass (see the module `settings`): Tidewaiter
    refuses what doesn't fit it. `check` says what types can't: it is called once, when the policy is loaded, and raises a ValueError with a sentence for
    the admin. `objects` are kinds that `cluster.get_object` and `cluster.list_objects` are asked for.
    """

    def made(review: Callable[..., Optional[Verdict]]) -> Policy:
        one = Policy(name, version, summary, review, settings, tuple(objects), check, len(inspect.signature(review).parameters) > 1)
        if settings is not None:
            _settings.shape(settings)
        _made.append(one)
        return one

    return made
