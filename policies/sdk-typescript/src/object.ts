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
    if (!Object.hasOwn(here, key) || (Array.isArray(here) && key === "length")) return undefined;
    here = (here as Record<string, unknown>)[key];
  }
  return here;
}

/** Where a model lies, as somebody wrote it, and a JSON Pointer to the field that says so. */
export interface ModelUri {
  readonly uri: string;
  readonly path: string;
}

/** Fields that say how a component is implemented; the first one counts. */
const IMPLEMENTATIONS = ["model", "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle", "art"];

/**
 * Where the models lie that a service loads, in all the shapes that KServe 0.15 to 0.20 has: `model` and the older `sklearn` and others, `storageUris`, the
 * variable `STORAGE_URI` of a container of the user's own, canaries, and an LLMInferenceService's model and adapters. What is empty or no text is left out. A `storage`
 * without a URI names its place by a key in a Secret, and isn't here.
 */
export function modelUris(object: unknown): ModelUri[] {
  return uriPaths(object)
    .map((path) => ({ uri: text(object, path), path }))
    .filter(({ uri }) => uri !== "");
}

function text(object: unknown, path: string): string {
  const value = at(object, path);
  return typeof value === "string" ? value : "";
}

function uriPaths(object: unknown): string[] {
  const items = (path: string): string[] => {
    const list = at(object, path);
    return Array.isArray(list) ? list.map((_, index) => `${path}/${index}`) : [];
  };
  if (at(object, "/kind") === "LLMInferenceService") {
    return ["/spec/model/uri", ...items("/spec/model/lora/adapters").map((adapter) => `${adapter}/uri`)];
  }
  const canaries = items("/spec/canary").map((canary) => `${canary}/predictor`);
  return ["/spec/predictor", "/spec/transformer", "/spec/explainer", ...canaries].flatMap((component) => {
    const others = items(`${component}/storageUris`).map((one) => `${one}/uri`);
    const implementation = IMPLEMENTATIONS.map((field) => `${component}/${field}`).find((path) => isObject(at(object, path)));
    if (implementation !== undefined) return [`${implementation}/storageUri`, ...others];
    const server = serverOf(object, items(`${component}/containers`), component.endsWith("/predictor"));
    const variables = server === undefined ? [] : items(`${server}/env`);
    const variable = variables.find((path) => at(object, `${path}/name`) === "STORAGE_URI");
    return variable === undefined ? others : [`${variable}/value`, ...others];
  });
}

/** The container that KServe takes for the server: a predictor's by its name, or the only one, or the first where it has no name; else the first. */
function serverOf(object: unknown, containers: string[], predictor: boolean): string | undefined {
  const [first] = containers;
  if (!predictor) return first;
  const named = containers.find((path) => at(object, `${path}/name`) === "kserve-container");
  return named ?? (containers.length > 1 && text(object, `${first}/name`) !== "" ? undefined : first);
}

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
