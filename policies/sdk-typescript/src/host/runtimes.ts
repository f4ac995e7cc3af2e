/// <reference path="./raw.d.ts" />
/** The serving runtimes of the cluster, and what is known of their images. */
import * as raw from "tidewaiter:policy/runtimes@0.1.0";

/** A ServingRuntime or ClusterServingRuntime that supports a model format. */
export type Runtime = raw.Runtime;
/** A release of an image. */
export type Release = raw.Release;

/**
 * The runtimes that support a format (and version, where one is given) in the object's namespace, in the order in which KServe tries them. KServe picks
 * the first that is not disabled, may be auto-selected, and speaks the service's protocol (`v1` where none is set).
 */
export const supporting = (format: string, version?: string): Runtime[] => raw.supporting(format, version ?? null);

/** The runtime by this name that the object's namespace sees. */
export const named = (name: string): Runtime | undefined => raw.named(name) ?? undefined;

/** The `spec` of that runtime: containers with their ports and resources, nodeSelector, tolerations. */
export function spec<S = unknown>(name: string): S | undefined {
  const text = raw.spec(name);
  return text === null ? undefined : (JSON.parse(text) as S);
}

/** The release of an image by its tag, with the versions of these packages (names as on PyPI); undefined where the catalogue doesn't know it. */
export const releaseOf = (repository: string, tag: string, packages: readonly string[]): Release | undefined =>
  raw.releaseOf(repository, tag, packages) ?? undefined;

/** The releases of an image that the catalogue knows, oldest first. */
export const releases = (repository: string, packages: readonly string[]): Release[] => raw.releases(repository, packages);

/** Of these packages, those that images of this repository are known to be without. */
export const lacking = (repository: string, packages: readonly string[]): string[] => raw.lacking(repository, packages);
