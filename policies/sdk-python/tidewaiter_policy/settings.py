"""Settings: a dataclass, and the JSON Schema that follows from it.

    @dataclass
    class Settings:
        max_replicas: int = setting(10, "The most replicas of one service")

is the setting `maxReplicas`. Fields may be `str`, `int`, `float`, `bool`, `List[…]`, `Dict[str, …]`, `Optional[…]`, `Literal[…]` and other dataclasses.
"""

import dataclasses
import functools
import typing
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Type

_MISSING = dataclasses.MISSING
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def setting(default: Any = _MISSING, description: str = "", *, shown: bool = False, **schema: Any) -> Any:
    """A field of a settings dataclass, with what JSON Schema says of it beside its type: `setting(10, "…", minimum=1)`. Without a default it is required.

    `shown`: users may see its value, as in a denial. `tidewaiter policy test` looks whether one shows that isn't.
    """
    said = {**({"description": description} if description else {}), **({"x-shown": True} if shown else {}), **schema}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=said)
    return dataclasses.field(default=default, metadata=said)


def _name(field: "dataclasses.Field[Any]") -> str:
    head, *rest = field.name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def schema_of(cls: Type[Any]) -> Dict[str, Any]:
    """JSON Schema of a settings dataclass."""
    hints = typing.get_type_hints(cls)
    properties: Dict[str, Any] = {}
    required = []
    for field in dataclasses.fields(cls):
        said = {**_type(hints[field.name]), **field.metadata}
        default = field.default_factory() if field.default_factory is not _MISSING else field.default
        if default is _MISSING:
            required.append(_name(field))
        elif default is not None and not dataclasses.is_dataclass(default):
            said["default"] = default
        properties[_name(field)] = said
    schema: Dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        schema["required"] = required
    return schema


def _type(hint: Any) -> Dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return schema_of(hint)
    if origin is list:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if type(None) in arguments:
        return _type(next(one for one in arguments if one is not type(None)))
    if hint is Any:
        return {}
    raise TypeError(f"{hint!r} can't be the type of a setting")


_Reader = Callable[[Any], Any]


class _Shape(NamedTuple):
    """What of a settings dataclass is the same in all reviews."""

    #: From the setting's name to the field's.
    names: Dict[str, str]
    #: From the setting's name to what makes the field's value of the admin's; without those that stay as they are.
    readers: Dict[str, _Reader]
    required: List[str]


@functools.lru_cache(maxsize=None)
def shape(cls: Type[Any]) -> _Shape:
    """Types are slow to look into, slower than a whole review. The decorator `policy` does it, and a component's memory has it from then on."""
    hints = typing.get_type_hints(cls)
    fields = {_name(field): field.name for field in dataclasses.fields(cls)}
    readers = {name: reader for name, field in fields.items() if (reader := _reader(hints[field])) is not None}
    return _Shape(fields, readers, schema_of(cls).get("required", []))


def build(cls: Type[Any], given: Dict[str, Any]) -> Any:
    """A settings dataclass from what the admin gave, which fits its schema."""
    names, readers, required = shape(cls)
    for name in given:
        if name not in names:
            raise ValueError(f"{name} is no setting; there are {', '.join(names)}")
    for name in required:
        if name not in given:
            raise ValueError(f"{name} is needed")
    return cls(**{names[name]: readers[name](value) if name in readers else value for name, value in given.items()})


def _reader(hint: Any) -> Optional[_Reader]:
    """None where a value stays as it is: nothing in it is a dataclass."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        shape(hint)
        return lambda value: build(hint, value) if isinstance(value, dict) else value
    if origin is list and (one := _reader(arguments[0])) is not None:
        return lambda value: [one(each) for each in value] if isinstance(value, list) else value
    if origin is dict and (one := _reader(arguments[1])) is not None:
        return lambda value: {key: one(each) for key, each in value.items()} if isinstance(value, dict) else value
    if type(None) in arguments:
        return _reader(next(one for one in arguments if one is not type(None)))
    return None
