//! The API server's question: an `AdmissionReview` of `admission.k8s.io/v1`, borrowed from the request's body. The objects in it stay raw text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields of an `AdmissionRequest` that a review needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionRequest<'a> {
    /// Repeated in the answer.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// What the object is, as the webhook's rules asked for it.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// Such as `status`. Empty or absent for the object itself.
    #[serde(borrow, default)]
    pub sub_resource: Option<Cow<'a, str>>,
    /// Empty or absent where the API server is still to generate it.
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    /// Absent for cluster-scoped objects.
    #[serde(borrow, default)]
    pub namespace: Option<Cow<'a, str>>,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// Who asks.
    #[serde(borrow, default)]
    pub user_info: UserInfo<'a>,
    /// The object; null on DELETE.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    /// The stored object, on UPDATE and DELETE.
    #[serde(borrow, default)]
    pub old_object: Option<&'a RawValue>,
    /// Nothing may be written anywhere.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// Group, version and kind.
#[derive(Debug, Deserialize)]
pub struct Kind<'a> {
    /// Empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// Such as `v1beta1`.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// Such as `InferenceService`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// The requester, as the API server authenticated them.
#[derive(Debug, Default, Deserialize)]
pub struct UserInfo<'a> {
    /// The user's or ServiceAccount's name.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
    /// The groups they are in.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Tells them from a later one of the same name.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// What else whoever authenticated them said, such as the scopes of a token.
    #[serde(default)]
    pub extra: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReview<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    request: Option<AdmissionRequest<'a>>,
}

/// What any object says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

/// Why a body isn't an `AdmissionReview` that we can answer. The API server logs it and follows the webhook's failurePolicy.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or fields of another type.
    #[error("the body is not an AdmissionReview in JSON: {0}")]
    Json(serde_json::Error),
    /// Another kind of object.
    #[error(
        "the body is of kind {kind:?} in {api_version:?}; this is an admission webhook: send an AdmissionReview of admission.k8s.io/v1"
    )]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// An `AdmissionReview`, but not of v1.
    #[error("AdmissionReview of {0} is not supported: list v1 in the webhook configuration's admissionReviewVersions")]
    Version(String),
    /// The field `request` is missing, as in an answer.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

/// Reads a body.
pub fn decode(body: &[u8]) -> Result<AdmissionRequest<'_>, DecodeError> {
    match serde_json::from_slice::<AdmissionReview<'_>>(body) {
        Ok(review) => {
            is_ours(&review.api_version, &review.kind)?;
            review.request.ok_or(DecodeError::NoRequest)
        }
        // What is another kind, or another version, has other fields: to name one that is missing would mislead.
        Err(error) => {
            if let Ok(head) = serde_json::from_slice::<Head<'_>>(body) {
                is_ours(&head.api_version, &head.kind)?;
            }
            Err(DecodeError::Json(error))
        }
    }
}

fn is_ours(api_version: &str, kind: &str) -> Result<(), DecodeError> {
    let version = api_version.strip_prefix("admission.k8s.io/");
    match version {
        Some("v1") if kind == "AdmissionReview" => Ok(()),
        Some(version) if version != "v1" && (kind.is_empty() || kind == "AdmissionReview") => {
            Err(DecodeError::Version(shown(api_version)))
        }
        _ => Err(DecodeError::Kind {
            api_version: shown(api_version),
            kind: shown(kind),
        }),
    }
}

/// What a sender wrote, short enough for an error.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What kind of JSON value stands there, for messages.
pub(crate) fn json_type(raw: &RawValue) -> &'static str {
    match raw.get().trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn review() -> serde_json::Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
                "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
                "resource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
                "requestKind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
                "name": "fraud", "namespace": "team-a", "operation": "CREATE",
                "userInfo": {"username": "ann\u{e9}e \"x\"", "groups": ["system:authenticated"], "extra": {"scopes": ["a"]}},
                "object": {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "fraud"}},
                "oldObject": null, "dryRun": false,
                "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl"},
            },
        })
    }

    #[test]
    fn reads_what_the_api_server_sends() {
        let body = serde_json::to_vec(&review()).unwrap();
        let request = decode(&body).unwrap();
        assert_eq!(request.name.as_deref(), Some("fraud"));
        assert_eq!(request.user_info.username, "ann\u{e9}e \"x\"");
        assert_eq!(request.old_object.map(RawValue::get), None);
        assert!(request.object.unwrap().get().starts_with(r#"{"apiVersion""#));
        assert!(matches!(request.uid, Cow::Borrowed(_)));
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |change: fn(&mut serde_json::Value)| {
            let mut review = review();
            change(&mut review);
            decode(&serde_json::to_vec(&review).unwrap()).unwrap_err().to_string()
        };
        insta::assert_snapshot!(error(|review| review["apiVersion"] = "admission.k8s.io/v1beta1".into()), @"AdmissionReview of admission.k8s.io/v1beta1 is not supported: list v1 in the webhook configuration's admissionReviewVersions");
        // With the fields of that version, or without: what is to be done is the same.
        let changes: [fn(&mut serde_json::Value); 3] = [
            |review| drop(review.as_object_mut().unwrap().remove("kind")),
            |review| drop(review["request"].as_object_mut().unwrap().remove("kind")),
            |review| review["request"] = "a text".into(),
        ];
        for change in changes {
            let mut old = review();
            old["apiVersion"] = "admission.k8s.io/v1beta1".into();
            change(&mut old);
            let error = decode(&serde_json::to_vec(&old).unwrap()).unwrap_err();
            assert!(
                matches!(&error, DecodeError::Version(version) if version == "admission.k8s.io/v1beta1"),
                "{error}"
            );
        }
        insta::assert_snapshot!(error(|review| drop(review["request"].as_object_mut().unwrap().remove("kind"))), @"the body is not an AdmissionReview in JSON: missing field `kind` at line 1 column 682");
        insta::assert_snapshot!(error(|review| *review = json!({"apiVersion": "v1", "kind": "Pod", "request": 7})), @r#"the body is of kind "Pod" in "v1"; this is an admission webhook: send an AdmissionReview of admission.k8s.io/v1"#);
        insta::assert_snapshot!(error(|review| review["kind"] = "Pod".into()), @r#"the body is of kind "Pod" in "admission.k8s.io/v1"; this is an admission webhook: send an AdmissionReview of admission.k8s.io/v1"#);
        insta::assert_snapshot!(error(|review| *review = json!({})), @r#"the body is of kind "" in ""; this is an admission webhook: send an AdmissionReview of admission.k8s.io/v1"#);
        insta::assert_snapshot!(error(|review| review["request"] = serde_json::Value::Null), @"the AdmissionReview has no request");
        assert!(
            error(|review| review["request"]["uid"] = 7.into()).starts_with(
                "the body is not an AdmissionReview in JSON: invalid type: integer `7`, expected a string"
            )
        );
        assert!(decode(b"").unwrap_err().to_string().contains("EOF while parsing"));
        assert!(decode(b"{\"kind\": \"\xff\"}").is_err());
    }

    #[test]
    fn depth_of_an_object_is_no_matter() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = serde_json::to_string(&review())
            .unwrap()
            .replace(r#""oldObject":null"#, &format!(r#""oldObject":{deep}"#));
        assert_eq!(decode(body.as_bytes()).unwrap().old_object.unwrap().get(), deep);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn never_panics_on_a_damaged_review(at in 0_usize..900, with: Vec<u8>, drop in 0_usize..64) {
            let mut body = serde_json::to_vec(&review()).unwrap();
            let at = at.min(body.len());
            let end = (at + drop).min(body.len());
            body.splice(at..end, with);
            if let Ok(request) = decode(&body) {
                for raw in [request.object, request.old_object].into_iter().flatten() {
                    prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(raw.get()).is_ok());
                }
            }
        }
    }
}
