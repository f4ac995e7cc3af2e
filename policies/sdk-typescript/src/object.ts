/**
 * The object under review: the part of an InferenceService that policies look at, typed; all the rest is there too, as JSON.
 *
 * It is what somebody wrote, so any member may be missing, and `?.` is how to read it. Fields: KServe's API reference, `serving.kserve.io/v1beta1`.
 */

export interface ObjectMeta {
  readonly name?: string;
  readonly generateName?: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ResourceRequirements {
  /** Quantities, such as `"2Gi"`, or numbers as YAML has them. */
  readonly requests?: Readonly<Record<string, string | number>>;
  readonly limits?: Readonly<Record<string, string | number>>;
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort?: number;
  readonly protocol?: string;
}

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: unknown;
}

export interface Container {
  readonly name?: string;
  readonly image?: string;
  readonly args?: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly EnvVar[];
  readonly ports?: readonly ContainerPort[];
  readonly resources?: ResourceRequirements;
  readonly [field: string]: unknown;
}

/** `spec.predictor.model`: a model for a serving runtime. */
export interface Model extends Container {
  readonly modelFormat?: { readonly name?: string; readonly version?: string };
  readonly storageUri?: string;
  readonly storage?: {
    readonly key?: string;
    readonly path?: string;
    readonly schemaPath?: string;
    readonly parameters?: Readonly<Record<string, string>>;
  };
  readonly runtime?: string;
  readonly runtimeVersion?: string;
  readonly protocolVersion?: string;
}

/** What predictor, transformer and explainer have in common. */
export interface Component {
  readonly minReplicas?: number;
  readonly maxReplicas?: number;
  readonly scaleTarget?: number;
  readonly scaleMetric?: string;
  readonly containerConcurrency?: number;
  readonly timeout?: number;
  readonly canaryTrafficPercent?: number;
  readonly serviceAccountName?: string;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly unknown[];
  readonly containers?: readonly Container[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

export interface Predictor extends Component {
  readonly model?: Model;
}

export interface InferenceService {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: ObjectMeta;
  readonly spec?: {
    readonly predictor?: Predictor;
    readonly transformer?: Component;
    readonly explainer?: Component;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** What stands at a JSON Pointer (RFC 6901); undefined where nothing does. */
export function at(object: unknown, pointer: string): unknown {
  if (pointer === "") return object;
  let here = object;
  for (const token of pointer.slice(1).split("/")) {
    if (typeof here !== "object" || here === null) return undefined;
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    if (!Object.hasOwn(here, key)) return undefined;
    here = (here as Record<string, unknown>)[key];
  }
  return here;
}
