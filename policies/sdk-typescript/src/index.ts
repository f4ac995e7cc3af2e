/**
 * Write an admission policy for Tidewaiter in TypeScript or JavaScript.
 *
 * A policy looks at an object that is about to be stored in the cluster and answers with a {@link Verdict}. It runs as a WebAssembly component: no clock,
 * no network, no files. What it may ask is in {@link storage}, {@link runtimes}, {@link cluster} and {@link log}; the component imports only
 * those that the source imports, and a WasmPolicy must grant them.
 */
export * as cluster from "./host/cluster.ts";
export * as log from "./host/log.ts";
export * as runtimes from "./host/runtimes.ts";
export * as storage from "./host/storage.ts";
export * from "./object.ts";
export { policy, type Exports, type Policy, type Request } from "./policy.ts";
export type { Of, Schema } from "./settings.ts";
export type { Delivery, Denial, Entry, Json, ObjectKind, Operation, RawRequest, RawVerdict } from "./types.ts";
export { admit, deny, Verdict } from "./verdict.ts";
