import type { Delivery, Denial, Json, RawVerdict } from "./types.ts";

/** An answer that can be added to: `admit().fill(…).warn(…)`. */
export class Verdict {
  #denial: Denial | null = null;
  readonly #fills: RawVerdict["fills"] = [];
  readonly #warnings: string[] = [];
  readonly #effects: RawVerdict["effects"] = [];

  /**
   * A value for a place that the user left empty. `path` is a JSON Pointer to a member of an object (missing parents are made); `reason` is for
   * the user, at most 90 characters, without the value. A fill over a value of the user is dropped, with a warning.
   */
  fill(path: string, value: Json, reason: string): this {
    this.#fills.push({ path, value: JSON.stringify(value), reason });
    return this;
  }

  /** One line for the user, at most 120 characters. */
  warn(line: string): this {
    this.#warnings.push(line);
    return this;
  }

  /**
   * Refuses the object. `code` is a word for machines in kebab case; `message` says what happened, to which part of the object, and what to do;
   * `path` is a JSON Pointer to that part. Of several denials the first counts.
   */
  deny(code: string, message: string, path?: string): this {
    this.#denial ??= { code, message, path: path ?? null };
    return this;
  }

  /** Asks for a backend's credentials in the object's namespace. Asking twice is asking once. */
  needCredentials(backend: string, delivery: Delivery = "annotation"): this {
    const asked = this.#effects.some(({ val }) => val.backend === backend && val.delivery === delivery);
    if (!asked) this.#effects.push({ tag: "credentials", val: { backend, delivery } });
    return this;
  }

  /** As the contract has it. */
  raw(): RawVerdict {
    return { denial: this.#denial, fills: this.#fills, warnings: this.#warnings, effects: this.#effects };
  }
}

/** Admits the object and says nothing. Go on with `fill`, `warn` and the others. */
export const admit = (): Verdict => new Verdict();

/** Refuses the object: see {@link Verdict.deny}. */
export const deny = (code: string, message: string, path?: string): Verdict => new Verdict().deny(code, message, path);
