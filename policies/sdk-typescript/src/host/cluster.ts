/// <reference path="./raw.d.ts" />
/** The cluster around the object. */
import * as raw from "tidewaiter:policy/cluster@0.1.0";

/** Labels of the object's namespace. */
export function namespaceLabels(): Record<string, string> {
  return Object.fromEntries(raw.namespaceLabels().map(({ key, value }) => [key, value]));
}

/** The architectures of the cluster's nodes, as in `kubernetes.io/arch`, sorted, each once. */
export const nodeArchitectures = (): string[] => raw.nodeArchitectures();

/**
 * An object of a kind that the WasmPolicy declares in `spec.objects`, from the object's namespace (or cluster-scoped); undefined where there is none.
 * Never a Secret.
 *
 * @throws {Error} Where it can't be read.
 */
export function getObject<O = unknown>(apiVersion: string, kind: string, name: string): O | undefined {
  const text = named(() => raw.getObject(apiVersion, kind, name));
  return text === null ? undefined : (JSON.parse(text) as O);
}

/**
 * All objects of such a kind, in the order of their names; at most 100, and 1 MiB in all.
 *
 * @throws {Error} Where they can't be read, or there are more.
 */
export function listObjects<O = unknown>(apiVersion: string, kind: string): O[] {
  return named(() => raw.listObjects(apiVersion, kind)).map((text) => JSON.parse(text) as O);
}

/** One key of KServe's ConfigMap `inferenceservice-config`, such as `deploy`; undefined where it isn't known. */
export function kserveConfig<C = unknown>(key: string): C | undefined {
  const text = raw.kserveConfig(key);
  return text === null ? undefined : (JSON.parse(text) as C);
}

/** What the runtime throws is the contract's error alone: a sentence. */
function named<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw thrown instanceof Error ? thrown : new Error(String(thrown));
  }
}
