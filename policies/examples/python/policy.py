from dataclasses import dataclass
from typing import List

from tidewaiter_policy import Request, Verdict, admit, cluster, policy
from tidewaiter_policy.settings import setting


@dataclass
class Settings:
    prefixes: List[str] = setting([], "Models come from below one of these; none allows all", shown=True)
    max_replicas: int = setting(10, "The most replicas of one service", shown=True, minimum=1)


@policy(
    name="house-rules",
    version="0.1.0",
    summary="Every service belongs to a team, loads an allowed model, and stays small.",
    settings=Settings,
)
def review(request: Request, settings: Settings) -> Verdict:
    verdict = admit()
    team = cluster.namespace_labels().get("team")
    if request.at("/metadata/labels/team") is None:
        if team is None:
            message = f"{request.name} belongs to no team; label it, or its namespace, with `team`"
            verdict.deny("no-team", message, "/metadata/labels/team")
        else:
            verdict.fill("/metadata/labels/team", team, "the namespace belongs to this team")
    uri = request.at("/spec/predictor/model/storageUri")
    if uri and settings.prefixes and not uri.startswith(tuple(settings.prefixes)):
        message = f"{uri} is not below {', '.join(settings.prefixes)}; move the model there"
        verdict.deny("model-not-allowed", message, "/spec/predictor/model/storageUri")
    predictor = request.at("/spec/predictor")
    if predictor is None:
        return verdict
    asked = predictor.get("maxReplicas", 0)
    if asked > settings.max_replicas:
        message = f"maxReplicas is {asked}, and {settings.max_replicas} is the most; ask for fewer"
        verdict.deny("too-many-replicas", message, "/spec/predictor/maxReplicas")
    if predictor.get("minReplicas") == 0:
        verdict.warn("minReplicas is 0: the first request waits until the model is loaded")
    elif "minReplicas" not in predictor:
        verdict.fill("/spec/predictor/minReplicas", 1, "a model that is to answer needs a replica")
    return verdict
