import type { Delivery, Denial, Json, RawVerdict } from "./types.ts";

/** An answer that can be added to: `admit().fill(…).warn(…)`. */
export class Verdict {
  #denial: Denial | null = null;
  readonly #fills: RawVerdict["fills"] = [];
  readonly #warnings: string[] = [];
  readonly #effects: RawVerdict["effects"] = [];

  /**
   * A value for a place that the user left empty. `path` is a JSON Pointer to a member of an object (missing parents are made); `reason` is for
   * the user, at most 90 characters, without the value. A fill over a value of the user is dropped, with a warning. Throws a `TypeError` for what
   * JSON hasn't: `NaN`, `Infinity`, `undefined`. (A member of an object that is undefined is left out.)
   */
  fill(path: string, value: Json, reason: string): this {
    this.#fills.push({ path, value: jsonOf(path, value), reason });
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

/** JSON.stringify makes null of a number that JSON has no word for, and of what isn't there in a list. */
function jsonOf(path: string, value: unknown): string {
  const refuse = (what: unknown): never => {
    throw new TypeError(`${path} can't be filled in: ${String(what)} is nothing that JSON has`);
  };
  const text = JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === "number" && !Number.isFinite(part)) refuse(part);
    if (Array.isArray(part) && part.includes(undefined)) refuse(undefined);
    return part;
  }) as string | undefined;
  return text ?? refuse(value);
}
