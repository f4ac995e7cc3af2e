"""Lines for the server's log, with the policy's and the object's name added."""

from ._host import interface

_raw = interface("log")


def debug(message: str) -> None:
    _raw.write(_raw.Level.DEBUG, message)


def info(message: str) -> None:
    _raw.write(_raw.Level.INFO, message)


def warn(message: str) -> None:
    _raw.write(_raw.Level.WARN, message)


def error(message: str) -> None:
    _raw.write(_raw.Level.ERROR, message)
