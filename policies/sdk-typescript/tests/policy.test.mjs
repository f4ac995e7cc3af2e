// What the SDK does around a policy; the contract's imports answer as the test says.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { build } from "esbuild";

const answers = {};
globalThis.answers = answers;

/** The functions of an interface, as the runtime names them. */
function functions(name) {
  const text = readFileSync(join(import.meta.dirname, "../policy.wit"), "utf8");
  const [, body] = text.split(`interface ${name} {`);
  const names = body.split(/^}/m)[0].matchAll(/^ {4}([a-z-]+): func\(/gm);
  return [...names].map(([, kebab]) => kebab.replaceAll(/-(.)/g, (_, letter) => letter.toUpperCase()));
}

const contract = {
  name: "contract",
  setup(build) {
    build.onResolve({ filter: /^tidewaiter:policy\// }, ({ path }) => ({ path, namespace: "contract" }));
    build.onLoad({ filter: /.*/, namespace: "contract" }, ({ path }) => {
      const name = path.replace(/^.*\/|@.*$/g, "");
      const one = (f) => `export const ${f} = (...a) => globalThis.answers["${name}.${f}"](...a);`;
      return { contents: functions(name).map(one).join("\n") };
    });
  },
};

const folder = mkdtempSync(join(tmpdir(), "tidewaiter-policy-"));
after(() => rmSync(folder, { recursive: true }));
await build({
  entryPoints: [join(import.meta.dirname, "../src/index.ts")],
  bundle: true,
  outfile: join(folder, "sdk.mjs"),
  format: "esm",
  plugins: [contract],
});
const { admit, at, cluster, deny, modelUris, policy, storage } = await import(join(folder, "sdk.mjs"));

const request = (members) => ({
  operation: "create",
  apiVersion: "serving.kserve.io/v1beta1",
  kind: "InferenceService",
  namespace: "team-a",
  name: "fraud",
  object: '{"metadata": {"name": "fraud"}}',
  oldObject: null,
  filled: [],
  withheld: [],
  username: "alice",
  groups: [],
  ...members,
});

const settings = {
  type: "object",
  properties: {
    most: { type: "integer", default: 10 },
    quota: { type: "object", properties: { gpus: { type: "integer", default: 2 } }, default: {} },
    owner: { type: "string" },
  },
};

test("settings that the admin didn't give are the schema's defaults, however deep", () => {
  const { review, describe } = policy({
    name: "a",
    version: "1.0.0",
    summary: "A.",
    settings,
    review: (_, given) => admit().warn(JSON.stringify(given)),
  });
  assert.deepEqual(JSON.parse(review(request(), "{}").warnings[0]), { most: 10, quota: { gpus: 2 } });
  const given = JSON.parse(review(request(), '{"most": 3, "quota": {"gpus": 0}, "owner": "me"}').warnings[0]);
  assert.deepEqual(given, { most: 3, quota: { gpus: 0 }, owner: "me" });
  assert.equal(JSON.parse(describe().settingsSchema).properties.most.default, 10);
  assert.deepEqual(describe().objects, []);
});

/** What a policy with these settings is given for what its admin gave. */
function given(settings, text) {
  const { review } = policy({ name: "a", version: "1.0.0", summary: "A.", settings, review: (_, given) => admit().warn(JSON.stringify(given)) });
  return JSON.parse(review(request(), text).warnings[0]);
}

test("defaults are also those of what is in lists and maps", () => {
  const rule = { type: "object", properties: { name: { type: "string" }, most: { type: "integer", default: 3 } } };
  const schema = {
    type: "object",
    properties: {
      rules: { type: "array", items: rule, default: [{ name: "all" }] },
      byTeam: { type: "object", additionalProperties: { type: "array", items: rule } },
      quota: { ...rule, additionalProperties: rule },
    },
  };
  assert.deepEqual(given(schema, "{}"), { rules: [{ name: "all", most: 3 }] });
  const text = '{"rules": [{"name": "a"}, {"most": 1}], "byTeam": {"__proto__": [{}], "toString": []}, "quota": {"name": "b", "x": {}}}';
  const wanted = '{"rules":[{"name":"a","most":3},{"most":1}],"byTeam":{"__proto__":[{"most":3}],"toString":[]},"quota":{"name":"b","x":{"most":3},"most":3}}';
  assert.deepEqual(given(schema, text), JSON.parse(wanted));
});

test("a schema takes the properties that it names and no others, unless it says so", () => {
  const carried = (settings) => JSON.parse(policy({ name: "a", version: "1.0.0", summary: "A.", settings, review: admit }).describe().settingsSchema);
  const part = { properties: { a: true } };
  const only = { ...part, additionalProperties: false };
  assert.deepEqual(carried({ type: "object", properties: { list: { items: part }, one: part } }), {
    type: "object",
    properties: { list: { items: only }, one: only },
    additionalProperties: false,
  });
  assert.deepEqual(carried({ additionalProperties: part }), { additionalProperties: only });
  for (const said of [
    { ...part, additionalProperties: true },
    { ...part, additionalProperties: { type: "string" } },
    { ...part, unevaluatedProperties: true },
    { ...part, allOf: [part] },
    { type: "object" },
    { items: [part, true] },
  ]) {
    assert.deepEqual(carried(said), said);
  }
});

test("what check throws is the contract's error: a sentence", () => {
  const checked = (check) => policy({ name: "a", version: "1.0.0", summary: "A.", check, review: admit }).checkSettings;
  checked(undefined)("{}");
  for (const thrown of [new Error("most is 0"), "most is 0"]) {
    assert.throws(
      () =>
        checked(() => {
          throw thrown;
        })("{}"),
      (error) => error === "most is 0",
    );
  }
});

test("a verdict is as the contract has it, of several denials the first", () => {
  const verdict = deny("a", "first").deny("b", "second", "/spec").fill("/x", { y: [1] }, "why").needCredentials("minio").needCredentials("minio");
  assert.deepEqual(verdict.raw(), {
    denial: { code: "a", message: "first", path: null },
    fills: [{ path: "/x", value: '{"y":[1]}', reason: "why" }],
    warnings: [],
    effects: [{ tag: "credentials", val: { backend: "minio", delivery: "annotation" } }],
  });
});

test("a fill is JSON or an error", () => {
  assert.equal(admit().fill("/a", { b: [1, null], c: undefined }, "why").raw().fills[0].value, '{"b":[1,null]}');
  for (const [wrong, says] of [
    [NaN, "NaN"],
    [{ a: [-Infinity] }, "-Infinity"],
    [undefined, "undefined"],
    [[1, undefined], "undefined"],
  ]) {
    assert.throws(() => admit().fill("/a", wrong, "why"), { name: "TypeError", message: `/a can't be filled in: ${says} is nothing that JSON has` });
  }
});

test("the request's JSON is read", () => {
  const { review } = policy({
    name: "a",
    version: "1.0.0",
    summary: "A.",
    review: ({ object, oldObject, filled }) => admit().warn(JSON.stringify([object, oldObject ?? "none", filled])),
  });
  const said = (members) => JSON.parse(review(request(members), "").warnings[0]);
  assert.deepEqual(said({}), [{ metadata: { name: "fraud" } }, "none", []]);
  const [, old, filled] = said({ oldObject: '{"spec": {}}', filled: [{ path: "/a", value: "1" }] });
  assert.deepEqual([old, filled], [{ spec: {} }, [{ path: "/a", value: 1 }]]);
});

test("a pointer finds what is there and nothing else", () => {
  const object = { "a/b": { "~": [1, { x: null }] } };
  assert.equal(at(object, "/a~1b/~0/0"), 1);
  assert.equal(at(object, "/a~1b/~0/1/x"), null);
  for (const pointer of ["/a", "/a~1b/~0/2", "/a~1b/~0/length", "/a~1b/~0/0/y", "/toString"]) assert.equal(at(object, pointer), undefined);
});

test("models are found in every shape that KServe has", () => {
  const cases = JSON.parse(readFileSync(join(import.meta.dirname, "models.json"), "utf8"));
  assert.ok(cases.length > 5);
  for (const { name, object, models } of cases) assert.deepEqual(modelUris(object), models, name);
});

test("what is no text names no model", () => {
  for (const other of [null, 5, "x", [null, "x", { name: 5 }], { storageUri: { a: 1 }, name: [] }]) {
    const spec = { predictor: { model: other, sklearn: other, containers: other, storageUris: other }, transformer: other, canary: other };
    const llm = { kind: "LLMInferenceService", spec: { model: { uri: [other], lora: { adapters: other } } } };
    for (const object of [{ spec }, { spec: other }, llm]) assert.deepEqual(modelUris(object), []);
  }
});

test("errors of the contract become exceptions with words", () => {
  const thrown = (error) => () => {
    throw error;
  };
  answers["storage.read"] = thrown({ tag: "too-large", val: 7n });
  assert.throws(() => storage.read("s3://a/b"), { name: "StorageError", code: "too-large", message: "s3://a/b: too large: 7" });
  answers["storage.stat"] = thrown({ payload: { tag: "not-found" } });
  assert.throws(() => storage.stat("s3://a/b"), { code: "not-found" });
  answers["cluster.listObjects"] = thrown("v1 Pod isn't declared");
  assert.throws(() => cluster.listObjects("v1", "Pod"), { message: "v1 Pod isn't declared" });
  answers["cluster.namespaceLabels"] = () => [{ key: "team", value: "fraud" }];
  assert.deepEqual(cluster.namespaceLabels(), { team: "fraud" });
  answers["cluster.getObject"] = () => null;
  assert.equal(cluster.getObject("v1", "ConfigMap", "a"), undefined);
});
