//! The answer: an `AdmissionReview` of `admission.k8s.io/v1`, written straight into the response's body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use json_patch::PatchOperation;
use serde::Serialize;
use tidewaiter_engine::outcome::{Change, Denial};

/// Room for an answer without a patch.
const USUAL: usize = 256;
/// The longest name of an audit annotation's key (a label's name part, without the prefix that the API server puts before it).
const KEY: usize = 63;

/// What the API server is told.
#[derive(Debug)]
pub enum Answer<'a> {
    /// The object may pass, changed by the patch.
    Allowed {
        /// Empty where nothing changes.
        patch: &'a [PatchOperation],
        /// One line each.
        warnings: &'a [String],
        /// What the patch does, for the audit log.
        changes: &'a [Change],
    },
    /// The object may not pass.
    Denied {
        /// HTTP status: 403 where a policy refused, 400 where the object is none, 500 where we failed.
        code: u16,
        /// What the user reads.
        message: &'a str,
        /// The policy that refused, where one did.
        policy: Option<&'a str>,
        /// Code, message and the part of the object.
        denial: &'a Denial,
        /// One line each.
        warnings: &'a [String],
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    audit_annotations: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    causes: [Cause<'a>; 1],
}

#[derive(Serialize)]
struct Cause<'a> {
    reason: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

/// Writes the answer to the request with this `uid`.
pub fn encode(uid: &str, answer: &Answer<'_>) -> Vec<u8> {
    let response = match answer {
        Answer::Allowed {
            patch,
            warnings,
            changes,
        } => {
            // An operation of a patch always serialises: its paths and values are JSON already.
            let patch = (!patch.is_empty()).then(|| serde_json::to_vec(patch).unwrap_or_default());
            Response {
                uid,
                allowed: true,
                status: None,
                patch_type: patch.as_ref().map(|_| "JSONPatch"),
                patch: patch.map(|patch| STANDARD.encode(patch)),
                warnings,
                audit_annotations: audit(changes),
            }
        }
        Answer::Denied {
            code,
            message,
            policy,
            denial,
            warnings,
        } => {
            let mut audit = serde_json::Map::new();
            audit.insert(
                "refused".into(),
                format!("{}: {}", policy.unwrap_or("tidewaiter"), denial.code).into(),
            );
            Response {
                uid,
                allowed: false,
                status: Some(Status {
                    code: *code,
                    reason: reason(*code),
                    message,
                    details: Details {
                        causes: [Cause {
                            reason: &denial.code,
                            message: &denial.message,
                            field: denial.path.as_deref().map(field_path),
                        }],
                    },
                }),
                patch_type: None,
                patch: None,
                warnings,
                audit_annotations: audit,
            }
        }
    };
    let patch = response.patch.as_ref().map_or(0, String::len);
    let mut body =
        Vec::with_capacity(USUAL + patch + 128 * response.warnings.len() + 256 * response.audit_annotations.len());
    let review = Review {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response,
    };
    // Strings and numbers into memory: nothing here can fail.
    let _ = serde_json::to_writer(&mut body, &review);
    body
}

fn reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        403 => "Forbidden",
        _ => "InternalError",
    }
}

/// One annotation a change: the path as key, what and why as value.
fn audit(changes: &[Change]) -> serde_json::Map<String, serde_json::Value> {
    let mut annotations = serde_json::Map::new();
    for change in changes {
        let value = match &change.value {
            Some(value) => format!("{}: set {value}: {}", change.policy, change.reason),
            None => format!("{}: withdrawn: {}", change.policy, change.reason),
        };
        let mut key = audit_key(&change.path);
        for n in 2.. {
            if !annotations.contains_key(&key) {
                break;
            }
            let number = format!("-{n}");
            let mut cut = audit_key(&change.path);
            cut.truncate(KEY - number.len());
            key = cut + &number;
        }
        annotations.insert(key, value.into());
    }
    annotations
}

/// A key that the API server takes: at most 63 of letters, digits, `-`, `_` and `.`, with a letter or digit at both ends. A long path keeps its end, which
/// tells paths apart.
fn audit_key(pointer: &str) -> String {
    let safe: String = dotted(pointer)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let end = &safe[safe.len().saturating_sub(KEY)..];
    let key = end.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if key.is_empty() { "change".into() } else { key.into() }
}

/// `/spec/predictor/model` as `spec.predictor.model`.
fn dotted(pointer: &str) -> String {
    pointer
        .trim_start_matches('/')
        .replace('/', ".")
        .replace("~1", "_")
        .replace("~0", "~")
}

/// A JSON Pointer as Kubernetes writes the path of a field: `spec.predictor.containers[0].env[1].value`, `metadata.annotations[a.b/c]`.
fn field_path(pointer: &str) -> String {
    let mut path = String::with_capacity(pointer.len());
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        let is_index = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        if is_index || name.contains(['.', '/']) {
            path.extend(["[", &name, "]"]);
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&name);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_keys_are_valid_and_told_apart() {
        assert_eq!(
            audit_key("/spec/predictor/model/runtime"),
            "spec.predictor.model.runtime"
        );
        assert_eq!(
            audit_key("/metadata/annotations/serving.kserve.io~1storageSecretName"),
            "metadata.annotations.serving.kserve.io_storageSecretName"
        );
        assert_eq!(audit_key(""), "change");
        let change = |path: &str| Change {
            policy: "p".into(),
            path: path.into(),
            value: None,
            reason: "r".into(),
        };
        let long = "x".repeat(80);
        let keys: Vec<_> = audit(&[change(&format!("/a{long}")), change(&format!("/b{long}"))])
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, [format!("{}-2", "x".repeat(61)), "x".repeat(63)]);
    }

    #[test]
    fn a_field_is_named_as_kubernetes_does() {
        for (pointer, expected) in [
            ("/spec/predictor/model/storageUri", "spec.predictor.model.storageUri"),
            (
                "/spec/predictor/containers/0/env/12/value",
                "spec.predictor.containers[0].env[12].value",
            ),
            (
                "/spec/canary/1/predictor/model/storageUri",
                "spec.canary[1].predictor.model.storageUri",
            ),
            ("/metadata/annotations/a.b~1c", "metadata.annotations[a.b/c]"),
            ("/metadata/labels/team~0a", "metadata.labels.team~a"),
            ("", ""),
        ] {
            assert_eq!(field_path(pointer), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn audit_keys_are_valid_for_any_path(path: String) {
            let key = audit_key(&path);
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            proptest::prop_assert!(key.len() <= KEY && ends(key.chars().next()) && ends(key.chars().last()));
            proptest::prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
        }
    }
}
