"""Settings: a dataclass, and the JSON Schema that follows from it.

    @dataclass
    class Settings:
        max_replicas: int = setting(10, "The most replicas of one service")

is the setting `maxReplicas`. Fields may be `str`, `int`, `float`, `bool`, `List[…]`, `Dict[str, …]`, `Optional[…]`, `Literal[…]` and other dataclasses.
"""

import dataclasses
import typing
from typing import Any, Dict, Type

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


def build(cls: Type[Any], given: Dict[str, Any]) -> Any:
    """A settings dataclass from what the admin gave, which fits its schema."""
    hints = typing.get_type_hints(cls)
    names = {_name(field): field.name for field in dataclasses.fields(cls)}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"{unknown[0]} is no setting; there are {', '.join(names)}")
    missing = [name for name in schema_of(cls).get("required", []) if name not in given]
    if missing:
        raise ValueError(f"{missing[0]} is needed")
    return cls(**{names[name]: _value(hints[names[name]], value) for name, value in given.items()})


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return build(hint, value)
    if origin is list and isinstance(value, list):
        return [_value(arguments[0], one) for one in value]
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], one) for key, one in value.items()}
    if type(None) in arguments and value is not None:
        return _value(next(one for one in arguments if one is not type(None)), value)
    return value
