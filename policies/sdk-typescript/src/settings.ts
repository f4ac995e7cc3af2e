/** Settings: a JSON Schema, and the TypeScript type that follows from it. */

/**
 * The part of JSON Schema that has a type here. Whatever else stands in a schema is kept as it is.
 *
 * A schema with `properties` takes no others, so that a misspelt setting is refused. One that is to take them says `additionalProperties: true`, or their schema;
 * one that is put together by `allOf`, `anyOf`, `oneOf`, `if` or `$ref` says for itself what it takes.
 */
export interface Schema {
  readonly type?: "object" | "array" | "string" | "number" | "integer" | "boolean";
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly items?: Schema;
  readonly properties?: { readonly [name: string]: Schema };
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  /** Users may see its value, as in a denial. `tidewaiter policy test` looks whether one shows that isn't. */
  readonly "x-shown"?: boolean;
  readonly [keyword: string]: unknown;
}

/** What a value of a schema is. */
export type Of<S> = S extends { readonly enum: readonly (infer E)[] }
  ? E
  : S extends { readonly type: "string" }
    ? string
    : S extends { readonly type: "number" | "integer" }
      ? number
      : S extends { readonly type: "boolean" }
        ? boolean
        : S extends { readonly type: "array"; readonly items: infer I }
          ? readonly Of<I>[]
          : S extends { readonly properties: infer P }
            ? { readonly [K in keyof P as Sure<S, P, K>]: Of<P[K]> } & { readonly [K in keyof P as Unsure<S, P, K>]?: Of<P[K]> }
            : S extends { readonly type: "object" }
              ? { readonly [key: string]: S extends { readonly additionalProperties: infer A extends Schema } ? Of<A> : unknown }
              : unknown;

/** A property that is always there: it is required, or has a default. */
type Sure<S, P, K extends keyof P> = P[K] extends { readonly default: unknown }
  ? K
  : S extends { readonly required: readonly (infer R)[] }
    ? K extends R
      ? K
      : never
    : never;
type Unsure<S, P, K extends keyof P> = [Sure<S, P, K>] extends [never] ? K : never;

/** Settings from their JSON text, with the schema's defaults where the admin gave none: of properties, also of those in lists and maps. */
export function settings<S extends Schema>(schema: S | undefined, text: string): Of<S> {
  const given = (text.trim() === "" ? {} : JSON.parse(text)) ?? {};
  return withDefaults(schema, given) as Of<S>;
}

function withDefaults(schema: Schema | undefined, value: unknown): unknown {
  if (schema === undefined) return value;
  if (value === undefined) return schema.default === undefined ? undefined : withDefaults(schema, schema.default);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => withDefaults(schema.items, item));
  const { properties = {}, additionalProperties } = schema;
  const others = typeof additionalProperties === "object" ? additionalProperties : undefined;
  const names = new Set([...Object.keys(value), ...Object.keys(properties)]);
  const filled = [...names].map((name) => {
    const given = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
    return [name, withDefaults(Object.hasOwn(properties, name) ? properties[name] : others, given)] as const;
  });
  return Object.fromEntries(filled.filter(([, one]) => one !== undefined));
}

/** A schema with one of these says itself what else may stand there, or another one does that it is put together with. */
const SAID = ["additionalProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "if", "$ref"];

/** The schema as the component carries it: an object with `properties` has no others, unless its author says something of them. */
export function closed(schema: Schema): Schema {
  // JSON Schema has `true` and lists in some places, whatever the type says.
  if (typeof schema !== "object" || Array.isArray(schema)) return schema;
  const { properties, items, additionalProperties } = schema;
  const only: { -readonly [K in keyof Schema]: Schema[K] } = { ...schema };
  if (items !== undefined) only.items = closed(items);
  if (typeof additionalProperties === "object") only.additionalProperties = closed(additionalProperties);
  if (properties !== undefined) {
    only.properties = Object.fromEntries(Object.entries(properties).map(([name, property]) => [name, closed(property)]));
    if (!SAID.some((keyword) => Object.hasOwn(schema, keyword))) only.additionalProperties = false;
  }
  return only;
}
