// Every service says whose it is: a label `team`, which the admin may have filled in.
import { admit, deny, policy } from "@tidewaiter/policy";

export default policy({
  name: "{{name}}",
  version: "0.1.0",
  summary: "Every service says whose it is.",
  settings: {
    type: "object",
    additionalProperties: false,
    // x-shown: its value may be seen by everybody whose service it is filled into.
    properties: { team: { type: "string", description: "The team of services that don't say", "x-shown": true } },
  },

  review({ name, object }, { team }) {
    if (object.metadata?.labels?.["team"] !== undefined) return admit();
    if (team !== undefined) return admit().fill("/metadata/labels/team", team, "every service says whose it is");
    return deny("no-team", `${name} belongs to no team; give it the label \`team\``, "/metadata/labels/team");
  },
});
