import type { InferenceService } from "./object.ts";
import { closed, type Of, type Schema, settings } from "./settings.ts";
import type { Entry, Json, ObjectKind, Operation, RawRequest, RawVerdict } from "./types.ts";
import type { Verdict } from "./verdict.ts";

/** One object to review. */
export interface Request<O = InferenceService> {
  readonly operation: Operation;
  /** Such as `serving.kserve.io/v1beta1`. */
  readonly apiVersion: string;
  /** Such as `InferenceService`. */
  readonly kind: string;
  readonly namespace: string;
  /** Empty where the API server is still to generate the name. */
  readonly name: string;
  /** What its user wrote, and what policies before this one filled in during this review; without what Tidewaiter filled in at an earlier admission. */
  readonly object: O;
  /** On an update: the object as it is stored, with all that Tidewaiter filled in. */
  readonly oldObject: O | undefined;
  /** What Tidewaiter filled in at an earlier admission and nobody changed since. To keep an entry, fill it again. */
  readonly filled: readonly Entry[];
  /** Paths that Tidewaiter filled in once and the user removed. A fill at or below one of them is dropped. */
  readonly withheld: readonly string[];
  /** Who sent the request, as the API server authenticated them. */
  readonly username: string;
  readonly groups: readonly string[];
}

/** What a policy is, and how it answers. */
export interface Policy<S extends Schema, O> {
  /** A DNS label. */
  readonly name: string;
  /** The policy's own semantic version. */
  readonly version: string;
  /** One sentence. */
  readonly summary: string;
  /**
   * JSON Schema of the settings. Tidewaiter refuses settings that don't fit it, and those that `properties` doesn't name unless `additionalProperties` allows
   * others; `review` gets its defaults. Default: no settings are typed.
   */
  readonly settings?: S;
  /** Kinds that `cluster.getObject` and `cluster.listObjects` are asked for. */
  readonly objects?: readonly ObjectKind[];
  /** What a schema can't say of settings. Called once, when the policy is loaded. Throw a sentence for the admin. */
  check?(settings: Of<S>): void;
  /** The answer to one request. The same request, settings and answers of the world must give the same verdict. */
  review(request: Request<O>, settings: Of<S>): Verdict;
}

/** The functions that a component exports. */
export interface Exports {
  describe(): { name: string; version: string; summary: string; settingsSchema: string | null; objects: ObjectKind[] };
  checkSettings(text: string): void;
  review(request: RawRequest, text: string): RawVerdict;
}

/** Makes a policy: `export default policy({ name, version, summary, review(request) { … } })`. */
export function policy<const S extends Schema = Schema, O = InferenceService>(of: Policy<S, O>): Exports {
  return {
    describe: () => ({
      name: of.name,
      version: of.version,
      summary: of.summary,
      settingsSchema: of.settings === undefined ? null : JSON.stringify(closed(of.settings)),
      objects: [...(of.objects ?? [])],
    }),
    checkSettings(text) {
      try {
        of.check?.(settings(of.settings, text));
      } catch (error) {
        // The contract's error is a sentence.
        throw error instanceof Error ? error.message : String(error);
      }
    },
    review: (request, text) => of.review(typed<O>(request), settings(of.settings, text)).raw(),
  };
}

/** The request with its JSON read, once it is looked at. */
function typed<O>(raw: RawRequest): Request<O> {
  let object: O | undefined;
  let oldObject: O | undefined;
  return {
    operation: raw.operation,
    apiVersion: raw.apiVersion,
    kind: raw.kind,
    namespace: raw.namespace,
    name: raw.name,
    get object() {
      return (object ??= JSON.parse(raw.object) as O);
    },
    get oldObject() {
      return (oldObject ??= raw.oldObject === null ? undefined : (JSON.parse(raw.oldObject) as O));
    },
    get filled() {
      return raw.filled.map(({ path, value }) => ({ path, value: JSON.parse(value) as Json }));
    },
    withheld: raw.withheld,
    username: raw.username,
    groups: raw.groups,
  };
}
