//! What the program is made of, as CycloneDX: each crate with version, licence, origin and the digest of its source, and what else is linked into it.
//!
//! From `cargo tree`, not `cargo metadata`: that one says what any package of the workspace asks for, this one what the program is built with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::binary;
use crate::oci::{Architecture, Attachment, timestamp};

/// The format's media type: the attachment's `artifactType`.
pub const KIND: &str = "application/vnd.cyclonedx+json";

/// The policies that are embedded into the program, by the package that does so: cargo doesn't see them as its dependencies.
const EMBEDDED: [&str; 7] = [
    "storage-credentials",
    "serving-versions",
    "model-exists",
    "serving-protocol",
    "architecture",
    "namespace-guard",
    "resources",
];
const EMBEDDED_IN: &str = "tidewaiter-builtin";
const EMBEDDED_TARGET: &str = "wasm32-unknown-unknown";

/// What is linked into the program, or lies beside it, and is no crate of its own tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// rustc's version, whose standard library it is: `1.95.0`.
    pub rust: String,
    /// Of the package that brings musl, the unwinder and the compiler's runtime: `0.16.0`.
    pub zig: String,
    /// Of the C library in it: `1.2.5`.
    pub musl: String,
}

impl Native {
    fn parts(&self) -> [Part; 3] {
        let part = |name: &str, version: &str, purl: String, licence: &str, cpe: Option<String>| Part {
            kind: "library",
            reference: purl.clone(),
            name: name.to_owned(),
            version: version.to_owned(),
            hashes: Vec::new(),
            licenses: [Licence {
                expression: licence.to_owned(),
            }],
            cpe,
            purl,
            external_references: Vec::new(),
        };
        let (rust, musl, zig) = (&self.rust, &self.musl, &self.zig);
        [
            part(
                "rust-std",
                rust,
                format!("pkg:github/rust-lang/rust@{rust}"),
                "MIT OR Apache-2.0",
                None,
            ),
            part(
                "musl",
                musl,
                format!("pkg:generic/musl@{musl}"),
                "MIT",
                Some(format!("cpe:2.3:a:musl-libc:musl:{musl}:*:*:*:*:*:*:*")),
            ),
            // Its libunwind and compiler-rt are LLVM's.
            part(
                "ziglang",
                zig,
                format!("pkg:pypi/ziglang@{zig}"),
                "MIT AND Apache-2.0 WITH LLVM-exception",
                None,
            ),
        ]
    }
}

/// Makes the document for one architecture.
///
/// # Errors
/// cargo doesn't answer, or a package says nothing of its licence.
pub fn attachment(root: &Path, architecture: Architecture, native: &Native, created: u64) -> Result<Attachment> {
    let tree = |package: &str, target: &str, more: &[&str]| -> Result<String> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(root)
            .args([
                "tree",
                "--locked",
                "--edges",
                "normal,no-proc-macro",
                "--prefix",
                "depth",
            ])
            .args(["--format", FORMAT, "--package", package, "--target", target])
            .args(more);
        let output = cargo.output().context("cargo can't be started")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "cargo tree of {package}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).context("can't read Cargo.lock")?;
    let mut parts = Parts::new(&lock);
    let program = parts.add(&tree(binary::PACKAGE, binary::target(architecture), &[])?)?;
    let embedding = parts.named(EMBEDDED_IN)?;
    for policy in EMBEDDED {
        let policy = parts.add(&tree(policy, EMBEDDED_TARGET, &[])?)?;
        parts.depends(&embedding, &policy);
    }
    // A file beside the program: its text, not the crates that hold it.
    let roots = parts.add(&tree(
        "webpki-root-certs",
        binary::target(architecture),
        &["--depth", "0"],
    )?)?;
    parts.depends(&program, &roots);
    for part in native.parts() {
        parts.depends(&program, &part.reference);
        parts.by_purl.insert(part.reference.clone(), part);
    }
    Ok(Attachment {
        kind: KIND.to_owned(),
        file: format!("{}-{}.cdx.json", binary::PACKAGE, architecture.name()),
        content: parts.document(&program, &timestamp(created)?)?,
    })
}

/// How `cargo tree` is asked to print a package: after its depth, name and version, licence, repository.
const FORMAT: &str = "|{p}|{l}|{r}|";

struct Parts {
    digests: BTreeMap<(String, String), String>,
    by_purl: BTreeMap<String, Part>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Parts {
    fn new(lock: &str) -> Self {
        Self {
            digests: digests(lock),
            by_purl: BTreeMap::new(),
            edges: BTreeMap::new(),
        }
    }

    /// Adds the packages of a tree, and returns its root's purl.
    fn add(&mut self, tree: &str) -> Result<String> {
        // The way from the root to the package of the last line.
        let mut above: Vec<String> = Vec::new();
        for line in tree.lines() {
            let (depth, part) = self.part(line).with_context(|| format!("cargo tree said `{line}`"))?;
            above.truncate(depth);
            ensure!(above.len() == depth, "cargo tree left out what is above `{line}`");
            let purl = part.purl.clone();
            self.by_purl.insert(purl.clone(), part);
            if let Some(parent) = above.last() {
                self.edges.entry(parent.clone()).or_default().insert(purl.clone());
            }
            above.push(purl);
        }
        above.into_iter().next().context("cargo tree said nothing")
    }

    fn part(&self, line: &str) -> Result<(usize, Part)> {
        let mut fields = line.split('|');
        let mut field = || fields.next().context("not depth, package, licence and repository");
        let depth = field()?.parse()?;
        let mut package = field()?.split(' ');
        let (licence, repository) = (field()?, field()?);
        let name = package.next().unwrap_or_default().to_owned();
        let version = package.next().and_then(|version| version.strip_prefix('v'));
        let version = version.context("no version")?.to_owned();
        ensure!(!licence.is_empty(), "{name} says nothing of its licence");
        let purl = format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"));
        let digest = self.digests.get(&(name.clone(), version.clone()));
        Ok((
            depth,
            Part {
                kind: "library",
                reference: purl.clone(),
                name,
                version,
                hashes: digest.map(|digest| Hash::sha256(digest)).into_iter().collect(),
                licenses: [Licence {
                    // How it was written before cargo knew SPDX.
                    expression: licence
                        .replace('/', " OR ")
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" "),
                }],
                cpe: None,
                purl,
                external_references: Some(repository)
                    .filter(|url| !url.is_empty())
                    .map(|url| Reference {
                        url: url.to_owned(),
                        kind: "vcs",
                    })
                    .into_iter()
                    .collect(),
            },
        ))
    }

    fn named(&self, name: &str) -> Result<String> {
        let mut found = self.by_purl.values().filter(|part| part.name == name);
        let part = found
            .next()
            .with_context(|| format!("{name} is no part of the program"))?;
        Ok(part.purl.clone())
    }

    fn depends(&mut self, from: &str, on: &str) {
        self.edges.entry(from.to_owned()).or_default().insert(on.to_owned());
    }

    fn document(mut self, program: &str, created: &str) -> Result<Vec<u8>> {
        let dependencies = self
            .by_purl
            .keys()
            .map(|purl| Dependency {
                reference: purl.clone(),
                depends_on: self.edges.get(purl).cloned().unwrap_or_default(),
            })
            .collect();
        let mut component = self
            .by_purl
            .remove(program)
            .context("a program that isn't part of itself")?;
        component.kind = "application";
        let document = Document {
            bom_format: "CycloneDX",
            spec_version: "1.6",
            version: 1,
            metadata: Metadata {
                timestamp: created,
                component,
            },
            components: self.by_purl.into_values().collect(),
            dependencies,
        };
        let mut text = serde_json::to_vec_pretty(&document)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// By name and version, the SHA-256 of each crate's source, as Cargo.lock has them.
fn digests(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?;
        Some(value.to_owned())
    };
    let mut digests = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let find = |key| package.lines().find_map(|line| value(line, key));
        if let (Some(name), Some(version), Some(digest)) = (find("name"), find("version"), find("checksum")) {
            digests.insert((name, version), digest);
        }
    }
    digests
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Part>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    timestamp: &'a str,
    component: Part,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    licenses: [Licence; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    cpe: Option<String>,
    purl: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Reference>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

impl Hash {
    fn sha256(digest: &str) -> Self {
        Self {
            alg: "SHA-256",
            content: digest.to_owned(),
        }
    }
}

#[derive(Serialize)]
struct Licence {
    expression: String,
}

#[derive(Serialize)]
struct Reference {
    url: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    depends_on: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::source;

    fn native() -> Native {
        Native {
            rust: "1.95.0".to_owned(),
            zig: "0.16.0".to_owned(),
            musl: "1.2.5".to_owned(),
        }
    }

    #[test]
    fn a_tree_becomes_parts_with_licence_origin_and_digest() {
        let lock = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let mut parts = Parts::new(lock);
        let program = parts
            .add("0|ours v0.1.0 (/home/me/ours)|Apache-2.0||\n1|a v2.0.0+spec-1.1.0|MIT / Apache-2.0||\n2|serde v1.0.0|MIT|https://example.org/serde|\n1|serde v1.0.0|MIT|https://example.org/serde|\n")
            .expect("a tree");
        let text = parts.document(&program, "1970-01-01T00:00:00Z").expect("a document");
        assert!(
            !String::from_utf8_lossy(&text).contains("/home/me"),
            "a path of this machine"
        );
        let document: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(
            document,
            json!({
                "bomFormat": "CycloneDX",
                "specVersion": "1.6",
                "version": 1,
                "metadata": {
                    "timestamp": "1970-01-01T00:00:00Z",
                    "component": {
                        "type": "application",
                        "bom-ref": "pkg:cargo/ours@0.1.0",
                        "name": "ours",
                        "version": "0.1.0",
                        "licenses": [{"expression": "Apache-2.0"}],
                        "purl": "pkg:cargo/ours@0.1.0",
                    },
                },
                "components": [
                    {
                        "type": "library",
                        "bom-ref": "pkg:cargo/a@2.0.0%2Bspec-1.1.0",
                        "name": "a",
                        "version": "2.0.0+spec-1.1.0",
                        "licenses": [{"expression": "MIT OR Apache-2.0"}],
                        "purl": "pkg:cargo/a@2.0.0%2Bspec-1.1.0",
                    },
                    {
                        "type": "library",
                        "bom-ref": "pkg:cargo/serde@1.0.0",
                        "name": "serde",
                        "version": "1.0.0",
                        "hashes": [{"alg": "SHA-256", "content": "abc"}],
                        "licenses": [{"expression": "MIT"}],
                        "purl": "pkg:cargo/serde@1.0.0",
                        "externalReferences": [{"url": "https://example.org/serde", "type": "vcs"}],
                    },
                ],
                "dependencies": [
                    {"ref": "pkg:cargo/a@2.0.0%2Bspec-1.1.0", "dependsOn": ["pkg:cargo/serde@1.0.0"]},
                    {"ref": "pkg:cargo/ours@0.1.0", "dependsOn": ["pkg:cargo/a@2.0.0%2Bspec-1.1.0", "pkg:cargo/serde@1.0.0"]},
                    {"ref": "pkg:cargo/serde@1.0.0"},
                ],
            })
        );
    }

    #[test]
    fn a_package_without_a_licence_is_refused() {
        let refused = Parts::new("").add("0|ours v0.1.0|||\n").expect_err("refused");
        assert!(
            format!("{refused:#}").contains("ours says nothing of its licence"),
            "{refused:#}"
        );
    }

    #[test]
    fn the_program_s_own_parts_are_all_there_and_what_only_tests_use_is_not() {
        let root = source::root().expect("the checkout");
        let made = || attachment(&root, Architecture::Amd64, &native(), 0).expect("an SBOM");
        let sbom = made();
        assert_eq!(sbom, made(), "the same each time");
        let document: Value = serde_json::from_slice(&sbom.content).expect("JSON");
        let components = document["components"].as_array().expect("components");
        let named = |name: &str| components.iter().find(|part| part["name"] == name);
        for name in [
            "ring",
            "mimalloc",
            "libmimalloc-sys",
            "wasmtime",
            "rustls",
            "tidewaiter-core",
            "storage-credentials",
            "tidewaiter-policy",
            "musl",
            "rust-std",
            "webpki-root-certs",
        ] {
            assert!(named(name).is_some(), "{name}");
        }
        for name in ["insta", "proptest", "serde_derive", "xtask", "cc", "tar"] {
            assert!(named(name).is_none(), "{name}");
        }
        assert_eq!(document["metadata"]["component"]["name"], "tidewaiter-webhook");
        for part in components {
            let from_registry = part["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/"))
                && part["version"] != source::VERSION;
            let digest = part["hashes"][0]["content"].as_str().map(str::len);
            assert!(!from_registry || digest == Some(64), "{part} has no digest");
        }
    }
}
