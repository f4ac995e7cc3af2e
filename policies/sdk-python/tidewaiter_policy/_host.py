"""The contract's imports: there in a component, and nowhere else."""

import importlib
from typing import Any


class _Outside:
    """In the place of an interface outside of a component. A test replaces the function that it calls, as by `unittest.mock.patch`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, function: str) -> Any:
        if function.startswith("_"):
            raise AttributeError(function)
        raise RuntimeError(f"{self._name}.{function} answers only in a component; a test replaces tidewaiter_policy.{self._name}.{function}")


def interface(name: str) -> Any:
    """The bindings of one interface."""
    try:
        return importlib.import_module(f"wit_world.imports.{name}")
    except ModuleNotFoundError:
        return _Outside(name)
