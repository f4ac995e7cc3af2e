/** The contract's imports, as the runtime of a component has them. `policy.wit` says what each does; a test compares the two. */
declare module "tidewaiter:policy/storage@0.1.0" {
  type Delivery = "annotation" | "service-account" | "storage-key";
  interface Listing {
    objects: { path: string; size: number }[];
    truncated: boolean;
  }
  export function resolve(uri: string): { tag: string; val?: unknown };
  export function secretAnnotation(): string | null;
  export function broughtCredentials(serviceAccount: string | null, secret: string | null): { tag: string; val?: unknown };
  export function stat(uri: string): { path: string; size: number };
  export function listObjects(uri: string, limit: number): Listing;
  export function listFolder(uri: string, limit: number): Listing;
  export function read(uri: string, offset: number, length: number): Uint8Array | number[];
}

declare module "tidewaiter:policy/runtimes@0.1.0" {
  interface Runtime {
    name: string;
    repository: string;
    tag: string;
    digest: string;
    protocols: string[];
    autoSelect: boolean;
    disabled: boolean;
  }
  interface Release {
    tag: string;
    python: string;
    packages: { name: string; version: string; exact: boolean }[];
    architectures: string[];
  }
  export function supporting(format: string, version: string | null): Runtime[];
  export function named(name: string): Runtime | null;
  export function spec(name: string): string | null;
  export function releaseOf(repository: string, tag: string, packages: readonly string[]): Release | null;
  export function releases(repository: string, packages: readonly string[]): Release[];
  export function lacking(repository: string, packages: readonly string[]): string[];
}

declare module "tidewaiter:policy/cluster@0.1.0" {
  export function namespaceLabels(): { key: string; value: string }[];
  export function nodeArchitectures(): string[];
  export function getObject(apiVersion: string, kind: string, name: string): string | null;
  export function listObjects(apiVersion: string, kind: string): string[];
  export function kserveConfig(key: string): string | null;
}

declare module "tidewaiter:policy/log@0.1.0" {
  export function write(level: "debug" | "info" | "warn" | "error", message: string): void;
}
