#!/usr/bin/env node
// Makes a component of a policy: `tidewaiter-policy build src/policy.ts -o policy.wasm`.
//
// esbuild puts the policy and the SDK into one module; what that still imports of the contract is what the component may import. componentize-qjs puts the module into
// QuickJS, runs it once, and keeps the memory as it is then: nothing is parsed when a request comes.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { componentize } from "componentize-qjs";
import { build } from "esbuild";

const USAGE = "usage: tidewaiter-policy build FILE -o COMPONENT";
const WIT = join(import.meta.dirname, "..", "policy.wit");
const CONTRACT = /^tidewaiter:policy\/([a-z-]+)@/;

async function bundle(entry) {
  const result = await build({
    stdin: {
      contents: [
        `import policy from ${JSON.stringify(resolve(entry))};`,
        "export const { describe, checkSettings, review } = policy;",
      ].join("\n"),
      resolveDir: dirname(resolve(entry)),
      sourcefile: "exports.js",
    },
    bundle: true,
    write: false,
    format: "esm",
    target: "es2023",
    platform: "neutral",
    mainFields: ["module", "main"],
    external: ["tidewaiter:policy/*"],
    minifySyntax: true,
    minifyWhitespace: true,
    metafile: true,
    logLevel: "warning",
  });
  const [output] = Object.values(result.metafile.outputs);
  const used = output.imports.map(({ path }) => CONTRACT.exec(path)?.[1]).filter((name) => name !== undefined);
  return { source: result.outputFiles[0].text, used: new Set(used) };
}

/** The contract with those imports alone that the policy uses: what isn't imported needs no grant. */
async function contract(used) {
  const text = await readFile(WIT, "utf8");
  return text.replaceAll(/^ {4}import ([a-z-]+);\n/gm, (line, name) => (used.has(name) ? line : ""));
}

async function main() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { output: { type: "string", short: "o" } } });
  const [command, entry, ...rest] = positionals;
  if (command !== "build" || entry === undefined || values.output === undefined || rest.length > 0) throw USAGE;
  const { source, used } = await bundle(entry);
  const folder = await mkdtemp(join(tmpdir(), "tidewaiter-policy-"));
  try {
    const witPath = join(folder, "policy.wit");
    await writeFile(witPath, await contract(used));
    // WASI stays: the engine's is empty, and standard error, where QuickJS tells of exceptions, ends in the server's log.
    const options = { stubWasi: false, sync: true, disableGc: true };
    const { component } = await componentize({ witPath, jsSource: source, world: "policy", ...options });
    await writeFile(values.output, component);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  // esbuild has said itself what is wrong with the source.
  if (error?.errors === undefined) console.error(`error: ${error?.message ?? error}`);
  process.exitCode = 1;
}
