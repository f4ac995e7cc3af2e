// What the compiler says of settings; nothing of it runs.
import type { Of } from "../src/settings.ts";

const schema = {
  type: "object",
  required: ["mode"],
  properties: {
    mode: { enum: ["strict", "lax"] },
    owner: { type: "string" },
    rules: { type: "array", items: { type: "object", properties: { most: { type: "integer", default: 3 }, name: { type: "string" } } }, default: [] },
    byTeam: { type: "object", additionalProperties: { type: "object", properties: { most: { type: "integer", default: 3 } } }, default: {} },
    others: { type: "object", additionalProperties: true, default: {} },
  },
} as const;

declare const settings: Of<typeof schema>;
export const known: ["strict" | "lax", number, number | undefined] = [settings.mode, settings.rules[0]!.most, settings.byTeam["fraud"]?.most];
// @ts-expect-error It has no default.
export const owner: string = settings.owner;
// @ts-expect-error It has no default.
export const name: string = settings.rules[0]!.name;
// @ts-expect-error It may be anything.
export const other: string = settings.others["x"];
