/** Settings: a JSON Schema, and the TypeScript type that follows from it. */

/** The part of JSON Schema that has a type here. Whatever else stands in a schema is kept as it is. */
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
              ? { readonly [key: string]: unknown }
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

/** Settings from their JSON text, with the defaults of the schema's properties where the admin gave none. */
export function settings<S extends Schema>(schema: S | undefined, text: string): Of<S> {
  const given = (text.trim() === "" ? {} : JSON.parse(text)) ?? {};
  return withDefaults(schema, given) as Of<S>;
}

function withDefaults(schema: Schema | undefined, value: unknown): unknown {
  if (value === undefined) return schema?.default === undefined ? undefined : withDefaults(schema, schema.default);
  if (schema?.properties === undefined || typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const filled: Record<string, unknown> = { ...value };
  for (const [name, property] of Object.entries(schema.properties)) {
    const inner = withDefaults(property, filled[name]);
    if (inner !== undefined) filled[name] = inner;
  }
  return filled;
}
