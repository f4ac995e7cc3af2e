/// <reference path="./raw.d.ts" />
/**
 * The model stores of the cluster, inside what the object's namespace may use. Names and answers, never a secret. All calls of one review share one time
 * budget (2 s unless the admin says otherwise).
 */
import * as raw from "tidewaiter:policy/storage@0.1.0";
import type { Delivery } from "../types.ts";

/** A backend that serves a URI for this namespace. */
export interface Served {
  /** The StorageBackend's name. */
  readonly backend: string;
  /** `s3`, `gcs`, `azure`, `huggingface`, `https`, `hdfs`. */
  readonly kind: string;
  readonly delivery: Delivery;
  /** Nothing needs to be delivered. */
  readonly anonymous: boolean;
  /** The name that the Secret with its credentials has, or will have, in this namespace. */
  readonly secret: string;
  readonly serviceAccount: string;
  readonly storageKey: string;
}

/** Which backend serves a URI. */
export type Resolution =
  | { readonly tag: "served"; readonly val: Served }
  | { readonly tag: "own-secret"; readonly val: string }
  | { readonly tag: "not-granted"; readonly val: { readonly backend: string; readonly allowed: readonly string[]; readonly contact: string | null } }
  | { readonly tag: "unusable"; readonly val: { readonly backend: string; readonly reason: string; readonly contact: string | null } }
  | { readonly tag: "unserved" }
  | { readonly tag: "no-credentials" }
  | { readonly tag: "unsupported"; readonly val: string };

/** What the user brought along. */
export type Brought =
  | { readonly tag: "nothing" }
  | { readonly tag: "usable" | "missing" | "unknown"; readonly val: string }
  | { readonly tag: "managed"; readonly val: readonly string[] };

export interface ObjectInfo {
  /** Relative to the URI that was asked for; empty for the object itself. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

export interface Listing {
  readonly objects: readonly ObjectInfo[];
  /** There is more than was listed. */
  readonly truncated: boolean;
}

/** A store's answer that isn't the one asked for. */
export class StorageError extends Error {
  /** What it is. */
  readonly code: "not-found" | "forbidden" | "unreachable" | "unserved" | "too-large";

  constructor(code: StorageError["code"], what: string) {
    super(what);
    this.name = "StorageError";
    this.code = code;
  }
}

/** Which backend serves this URI for the object's namespace. */
export const resolve = (uri: string): Resolution => raw.resolve(uri) as Resolution;

/** The annotation by which KServe is told the name of a Secret; undefined where KServe's configuration names none. */
export const secretAnnotation = (): string | undefined => raw.secretAnnotation() ?? undefined;

/** Whether the user brought credentials: by the Secret they name, else by the ServiceAccount they name, else by the namespace's `default`. */
export const broughtCredentials = (serviceAccount?: string, secret?: string): Brought =>
  raw.broughtCredentials(serviceAccount ?? null, secret ?? null) as Brought;

/** The object at exactly this URI. @throws {StorageError} */
export const stat = (uri: string): ObjectInfo => asked(uri, () => raw.stat(uri));

/** The objects below this URI, in the order of their names; at most `limit`, and never more than 1,000. @throws {StorageError} */
export const listObjects = (uri: string, limit = 1000): Listing => asked(uri, () => raw.listObjects(uri, limit));

/** What stands directly in this folder; a folder in it has a path that ends in `/`, and the size 0. @throws {StorageError} */
export const listFolder = (uri: string, limit = 1000): Listing => asked(uri, () => raw.listFolder(uri, limit));

/** `length` bytes from `offset`, fewer at the end of the object; at most 1 MiB a call. @throws {StorageError} */
export const read = (uri: string, offset = 0, length = 1 << 20): Uint8Array => Uint8Array.from(asked(uri, () => raw.read(uri, offset, length)));

function asked<T>(uri: string, call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    // The runtime throws the contract's variant as it is, or wrapped into an error's `payload`.
    const error = (thrown as { payload?: unknown })?.payload ?? thrown;
    const { tag, val } = error as { tag?: StorageError["code"]; val?: unknown };
    if (tag === undefined) throw thrown;
    const more = val === undefined || val === null ? "" : `: ${String(val)}`;
    throw new StorageError(tag, `${uri}: ${tag.replace("-", " ")}${more}`);
  }
}
