"""Every service says whose it is: a label `team`, which the admin may have filled in."""

from dataclasses import dataclass
from typing import Optional

from tidewaiter_policy import Request, Verdict, admit, deny, policy
from tidewaiter_policy.settings import setting


@dataclass
class Settings:
    # Shown: its value may be seen by everybody whose service it is filled into.
    team: Optional[str] = setting(None, "The team of services that don't say", shown=True)


@policy(name="{{name}}", version="0.1.0", summary="Every service says whose it is.", settings=Settings)
def review(request: Request, settings: Settings) -> Verdict:
    if request.at("/metadata/labels/team") is not None:
        return admit()
    if settings.team is not None:
        return admit().fill("/metadata/labels/team", settings.team, "every service says whose it is")
    return deny("no-team", f"{request.name} belongs to no team; give it the label `team`", "/metadata/labels/team")
