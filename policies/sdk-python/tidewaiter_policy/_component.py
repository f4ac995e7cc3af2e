"""The exports of a component. Imported only by the module that `python -m tidewaiter_policy build` makes, where `wit_world` is."""

import sys
from os.path import basename
from typing import Any

import wit_world
from componentize_py_types import Err
from wit_world.imports import types as raw

from .request import Policy, Request, _made
from .verdict import Verdict

_OPERATIONS = {raw.Operation.CREATE: "create", raw.Operation.UPDATE: "update"}
_DELIVERIES = {
    "annotation": raw.Delivery.ANNOTATION,
    "service-account": raw.Delivery.SERVICE_ACCOUNT,
    "storage-key": raw.Delivery.STORAGE_KEY,
}


class WitWorld(wit_world.WitWorld):
    def describe(self) -> Any:
        policy = _made[-1]
        objects = [raw.ObjectKind(kind.api_version, kind.kind) for kind in policy.objects]
        return raw.Description(policy.name, policy.version, policy.summary, policy.schema_text(), objects)

    def check_settings(self, settings: str) -> None:
        policy = _made[-1]
        try:
            given = policy.settings_of(settings)
            if policy.check is not None:
                policy.check(given)
        except ValueError as error:
            raise Err(str(error)) from None

    def review(self, request: Any, settings: str) -> Any:
        policy = _made[-1]
        verdict = _answered(
            policy,
            Request(
                _OPERATIONS[request.operation],
                request.api_version,
                request.kind,
                request.namespace,
                request.name,
                request.object,
                request.old_object,
                [(entry.path, entry.value) for entry in request.filled],
                request.withheld,
                request.username,
                request.groups,
            ),
            policy.settings_of(settings),
        )
        return raw.Verdict(
            None if verdict.denial is None else raw.Denial(*verdict.denial),
            [raw.Fill(*fill) for fill in verdict.fills],
            verdict.warnings,
            [raw.Effect_Credentials(raw.Credentials(backend, _DELIVERIES[how])) for backend, how in verdict.credentials],
        )


def _answered(policy: Policy, request: Request, settings: Any) -> Verdict:
    """The policy's answer. What it raises fails it, and is told in the server's log where the policy may write there: there is no other place."""
    try:
        return policy(request, settings)
    except Exception as error:
        log = sys.modules.get(f"{__package__}.log")
        if log is not None:
            log.error(_said(error))
        raise


def _said(error: BaseException) -> str:
    """Not by the module `traceback`: it looks for the source, and there are no files."""
    trace = error.__traceback__
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{basename(code.co_filename)}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}, at {', '.join(reversed(places))}"
