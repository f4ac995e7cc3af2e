/** What goes into a policy and comes out of it. The shapes are those of the contract (`policy.wit`). */

/** What the API server was asked to do. Deletions are never reviewed. */
export type Operation = "create" | "update";

/** Any JSON. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A place in the object, and what stands there. */
export interface Entry {
  /** A JSON Pointer (RFC 6901), such as `/spec/predictor/model/runtime`. */
  readonly path: string;
  readonly value: Json;
}

/** How credentials reach KServe's storage initializer. */
export type Delivery = "annotation" | "service-account" | "storage-key";

/** A kind of objects, such as `{ apiVersion: "v1", kind: "ResourceQuota" }`. */
export interface ObjectKind {
  readonly apiVersion: string;
  readonly kind: string;
}

/** Why an object can't be admitted. */
export interface Denial {
  /** A word for machines, in kebab case. */
  code: string;
  /** What happened, to which part of the object, and what to do, for the user. */
  message: string;
  /** A JSON Pointer to the part of the object, where there is one. */
  path: string | null;
}

/** A policy's answer, as the contract has it. Policies make one with {@link admit} or {@link deny}. */
export interface RawVerdict {
  denial: Denial | null;
  fills: { path: string; value: string; reason: string }[];
  warnings: string[];
  effects: { tag: "credentials"; val: { backend: string; delivery: Delivery } }[];
}

/** A request, as the contract has it. */
export interface RawRequest {
  operation: Operation;
  apiVersion: string;
  kind: string;
  namespace: string;
  name: string;
  object: string;
  oldObject: string | null;
  filled: { path: string; value: string }[];
  withheld: string[];
  username: string;
  groups: string[];
}
