"""Write an admission policy for Tidewaiter in Python.

A policy looks at an object that is about to be stored in the cluster and answers with a `Verdict`. It runs as a WebAssembly component: no clock, no
network, no files. What it may ask is in the modules `storage`, `runtimes`, `cluster` and `log`: the component imports only those that its
source imports (at the top of a module, where the build sees them), and a WasmPolicy must grant them.

    from tidewaiter_policy import admit, policy

    @policy(name="owner", version="0.1.0", summary="Every service says whose it is.")
    def review(request):
        if not request.at("/metadata/labels/team"):
            return admit().warn(f"{request.name} belongs to nobody")
"""

from .objects import InferenceService, ModelUri, at, model_uris
from .request import Entry, ObjectKind, Policy, Request, policy
from .verdict import Verdict, admit, deny

__all__ = [
    "Entry",
    "InferenceService",
    "ModelUri",
    "ObjectKind",
    "Policy",
    "Request",
    "Verdict",
    "admit",
    "at",
    "deny",
    "model_uris",
    "policy",
]
