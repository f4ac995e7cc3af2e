import { admit, cluster, policy } from "@tidewaiter/policy";

export default policy({
  name: "house-rules",
  version: "0.1.0",
  summary: "Every service belongs to a team, loads an allowed model, and stays small.",
  settings: {
    type: "object",
    additionalProperties: false,
    properties: {
      prefixes: {
        type: "array",
        items: { type: "string" },
        default: [],
        description: "Models come from below one of these; none allows all",
        "x-shown": true,
      },
      maxReplicas: { type: "integer", minimum: 1, default: 10, description: "The most replicas of one service", "x-shown": true },
    },
  },

  review({ name, object }, { prefixes, maxReplicas }) {
    const verdict = admit();
    const team = cluster.namespaceLabels()["team"];
    if (object.metadata?.labels?.["team"] === undefined) {
      if (team === undefined) {
        verdict.deny("no-team", `${name} belongs to no team; label it, or its namespace, with \`team\``, "/metadata/labels/team");
      } else {
        verdict.fill("/metadata/labels/team", team, "the namespace belongs to this team");
      }
    }
    const predictor = object.spec?.predictor;
    const uri = predictor?.model?.storageUri;
    if (uri !== undefined && prefixes.length > 0 && !prefixes.some((prefix) => uri.startsWith(prefix))) {
      const allowed = prefixes.join(", ");
      verdict.deny("model-not-allowed", `${uri} is not below ${allowed}; move the model there`, "/spec/predictor/model/storageUri");
    }
    if ((predictor?.maxReplicas ?? 0) > maxReplicas) {
      const asked = predictor?.maxReplicas;
      verdict.deny("too-many-replicas", `maxReplicas is ${asked}, and ${maxReplicas} is the most; ask for fewer`, "/spec/predictor/maxReplicas");
    }
    if (predictor?.minReplicas === 0) {
      verdict.warn("minReplicas is 0: the first request waits until the model is loaded");
    } else if (predictor !== undefined && predictor.minReplicas === undefined) {
      verdict.fill("/spec/predictor/minReplicas", 1, "a model that is to answer needs a replica");
    }
    return verdict;
  },
});
