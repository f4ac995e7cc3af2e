use proptest::prelude::*;
use serde_json::json;

use super::*;

fn grant(bucket: &str, root: &str, prefix: &str) -> Grant {
    Grant::new(bucket, root, prefix).expect("granted")
}

fn policy(grants: &[Grant]) -> Policy {
    Policy::new(grants).expect("a policy")
}

fn document(policy: &Policy) -> Value {
    serde_json::from_str(policy.as_json()).expect("JSON")
}

/// What MinIO makes of a policy: its own rules, written down once more, from `policy/statement.go` and `wildcard/match.go` of github.com/minio/pkg.
mod minio {
    use super::*;

    /// `*` is any text, also across slashes, and `?` any one character.
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
            Some(('?', rest)) => text.split_first().is_some_and(|(_, text)| matches(rest, text)),
            Some((c, rest)) => text
                .split_first()
                .is_some_and(|(first, text)| first == c && matches(rest, text)),
        }
    }

    fn any(patterns: &Value, text: &str) -> bool {
        let text: Vec<_> = text.chars().collect();
        patterns.as_array().expect("a list").iter().any(|pattern| {
            let pattern = pattern.as_str().expect("text");
            assert!(!pattern.contains("${"), "a variable in {pattern}");
            matches(&pattern.chars().collect::<Vec<_>>(), &text)
        })
    }

    fn allows(policy: &Value, action: &str, resource: &str, prefix: Option<&str>) -> bool {
        policy["Statement"]
            .as_array()
            .expect("statements")
            .iter()
            .any(|statement| {
                if statement["Effect"] != "Allow" {
                    assert_eq!(statement, &json!({"Effect": "Deny", "Action": ["admin:*"]}));
                    return false;
                }
                statement["Action"]
                    .as_array()
                    .expect("actions")
                    .contains(&json!(action))
                    && any(&statement["Resource"], &format!("arn:aws:s3:::{resource}"))
                    && match statement["Condition"]["StringLike"].get("s3:prefix") {
                        Some(wanted) => prefix.is_some_and(|prefix| any(wanted, prefix)),
                        None => true,
                    }
            })
    }

    pub(super) fn reads(policy: &Value, bucket: &str, key: &str) -> bool {
        allows(policy, "s3:GetObject", &format!("{bucket}/{key}"), None)
    }

    pub(super) fn lists(policy: &Value, bucket: &str, prefix: &str) -> bool {
        allows(policy, "s3:ListBucket", bucket, Some(prefix))
    }
}

#[test]
fn one_prefix_is_read_and_listed_and_its_bucket_looked_up() {
    let policy = policy(&[grant("mlflow", "team-a/", "team-a/models/iris")]);
    assert_eq!(
        document(&policy),
        json!({
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::mlflow/team-a/models/iris*"]},
                {"Effect": "Allow", "Action": ["s3:GetBucketLocation", "s3:HeadBucket"], "Resource": ["arn:aws:s3:::mlflow"]},
                {
                    "Effect": "Allow",
                    "Action": ["s3:ListBucket"],
                    "Resource": ["arn:aws:s3:::mlflow"],
                    "Condition": {"StringLike": {"s3:prefix": ["team-a/models/iris*"]}},
                },
                {"Effect": "Deny", "Action": ["admin:*"]},
            ],
        })
    );
}

#[test]
fn a_root_without_a_slash_keeps_its_neighbours_out() {
    let policy = document(&policy(&[grant("mlflow", "team-a", "team-a")]));
    for key in ["team-a", "team-a/", "team-a/iris"] {
        assert!(minio::reads(&policy, "mlflow", key), "{key}");
        assert!(minio::lists(&policy, "mlflow", key), "{key}");
    }
    for key in ["team-ab", "team-ab/iris", "team-", ""] {
        assert!(!minio::reads(&policy, "mlflow", key), "{key}");
        assert!(!minio::lists(&policy, "mlflow", key), "{key}");
    }
}

#[test]
fn a_whole_bucket_is_listed_without_a_condition() {
    let policy = policy(&[grant("public", "", ""), grant("public", "", "iris")]);
    assert_eq!(
        document(&policy)["Statement"][2],
        json!({"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::public"]})
    );
}

#[test]
fn prefixes_of_one_bucket_do_not_open_another() {
    let policy = document(&policy(&[grant("one", "a/", "a/x"), grant("two", "b/", "b/x")]));
    assert!(minio::lists(&policy, "one", "a/x") && minio::lists(&policy, "two", "b/x"));
    assert!(!minio::lists(&policy, "one", "b/x") && !minio::lists(&policy, "two", "a/x"));
    assert!(!minio::reads(&policy, "one", "b/x") && !minio::reads(&policy, "two", "a/x"));
}

#[test]
fn what_a_policy_would_take_for_a_wildcard_is_left_open_inside_of_the_root() {
    for odd in ["team-a/v*/x", "team-a/v?/x", "team-a/v${aws:username}/x"] {
        let policy = document(&policy(&[grant("mlflow", "team-a/", odd)]));
        assert_eq!(
            policy["Statement"][0]["Resource"],
            json!(["arn:aws:s3:::mlflow/team-a/v*"])
        );
    }
}

#[test]
fn what_is_not_granted_is_told() {
    let told = |root: &str, prefix: &str| Grant::new("mlflow", root, prefix).expect_err("not granted").to_string();
    assert_eq!(
        told("team-a", "team-ab/x"),
        "s3://mlflow/team-ab/x is not in s3://mlflow/team-a, which is granted"
    );
    assert_eq!(
        told("team-a/", "team-a"),
        "s3://mlflow/team-a is not in s3://mlflow/team-a/, which is granted"
    );
    assert!(told("team-*/", "team-*/x").contains("has `*`, `?` or `${` in it"));
    for bucket in ["", "a", "ml*", "ml/low", "${aws:username}", "-mlflow"] {
        assert_eq!(Grant::new(bucket, "", ""), Err(NotGranted::Bucket(bucket.to_owned())));
    }
}

#[test]
fn nothing_is_no_policy() {
    assert_eq!(Policy::new(&[]), Err(NoPolicy::NothingWanted));
}

#[test]
fn prefixes_become_their_root_where_they_do_not_fit_and_first_where_that_saves_most() {
    let many = (0..60).map(|at| grant("mlflow", "many/", &format!("many/models/{at:030}")));
    let few = (0..3).map(|at| grant("mlflow", "few/", &format!("few/models/{at:030}")));
    let policy = document(&policy(&many.chain(few).collect::<Vec<_>>()));
    assert_eq!(
        policy["Statement"][2]["Condition"]["StringLike"]["s3:prefix"],
        json!([
            "few/models/000000000000000000000000000000*",
            "few/models/000000000000000000000000000001*",
            "few/models/000000000000000000000000000002*",
            "many/*",
        ])
    );
}

#[test]
fn roots_that_do_not_fit_are_counted() {
    let grants: Vec<_> = (0..100)
        .map(|at| grant("mlflow", &format!("team-{at:03}/"), &format!("team-{at:03}/x")))
        .collect();
    let told = Policy::new(&grants).expect_err("too large").to_string();
    assert!(
        told.contains("MinIO takes 4096: 100 prefixes below 100 granted ones"),
        "{told}"
    );
}

#[test]
fn bytes_are_counted_as_go_writes_them() {
    let plain = policy(&[grant("mlflow", "", "abc")]);
    let odd = policy(&[grant("mlflow", "", "<&>")]);
    // Three characters, five bytes more each, twice.
    assert_eq!(odd.length, plain.length + 30);
    assert_eq!(plain.length, plain.as_json().len());
}

#[test]
fn a_policy_is_known_again_in_any_order() {
    let one = policy(&[grant("mlflow", "", "a"), grant("mlflow", "", "b")]);
    let mut said = document(&one);
    for list in ["/Statement/0/Resource", "/Statement/1/Action", "/Statement"] {
        said.pointer_mut(list)
            .and_then(Value::as_array_mut)
            .expect("a list")
            .reverse();
    }
    assert!(one.is(&said));
    assert!(!policy(&[grant("mlflow", "", "a")]).is(&said));
    assert!(!one.is(&json!({})));
}

/// Text in which prefixes of one another, wildcards and slashes are frequent.
fn text(longest: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![6 => Just("a"), 3 => Just("b"), 3 => Just("/"), 1 => Just("*"), 1 => Just("?"), 1 => Just("${"), 1 => Just("<"), 1 => Just("é")],
        0..longest,
    )
    .prop_map(|parts| parts.concat())
}

fn root() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![4 => Just("a"), 2 => Just("b"), 2 => Just("/")], 0..4)
        .prop_map(|parts| parts.concat())
}

fn bucket() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("one"), Just("two")]
}

/// Prefixes in their roots; few short ones, or so many long ones that they don't fit.
fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = |longest| {
        (bucket(), root(), text(longest), any::<bool>()).prop_map(|(bucket, root, rest, at_root)| {
            let prefix = if at_root { root.clone() } else { folder(&root) + &rest };
            Grant::new(bucket, &root, &prefix).expect("inside")
        })
    };
    prop_oneof![
        3 => proptest::collection::vec(grant(6), 1..8),
        1 => proptest::collection::vec(grant(60), 1..120),
    ]
}

/// What a grant's root holds, by the rule in the words of [`Grant::new`].
fn within(grant: &Grant, bucket: &str, key: &str) -> bool {
    grant.bucket == bucket
        && match grant.root.as_str() {
            "" => true,
            root if root.ends_with('/') => key.starts_with(root),
            root => key
                .strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
}

proptest! {
    #[test]
    fn a_policy_has_all_that_is_wanted_and_nothing_outside_of_the_roots(
        grants in grants(),
        below in text(4),
        probes in proptest::collection::vec((bucket(), text(6)), 40),
    ) {
        match Policy::new(&grants) {
            Err(error) => {
                let told = matches!(error, NoPolicy::TooLarge { length, .. } if length > LIMIT);
                prop_assert!(told, "{error:?}");
            }
            Ok(policy) => {
                prop_assert!(policy.as_json().len() <= policy.length && policy.length <= LIMIT, "{} bytes", policy.length);
                let document = document(&policy);
                for grant in &grants {
                    let Grant { bucket, prefix, .. } = grant;
                    prop_assert!(minio::lists(&document, bucket, prefix), "can't list {grant:?}");
                    prop_assert!(minio::reads(&document, bucket, prefix), "can't read {grant:?}");
                    prop_assert!(minio::reads(&document, bucket, &format!("{}{below}", folder(prefix))), "can't read below {grant:?}");
                }
                // Also those that are nearly granted.
                let near = grants.iter().flat_map(|grant| [
                    (grant.bucket.as_str(), format!("{}{below}", grant.root)),
                    (grant.bucket.as_str(), format!("{}{below}", grant.prefix)),
                    (if grant.bucket == "one" { "two" } else { "one" }, grant.prefix.clone()),
                ]);
                for (bucket, key) in near.chain(probes) {
                    if !grants.iter().any(|grant| within(grant, bucket, &key)) {
                        prop_assert!(!minio::reads(&document, bucket, &key), "reads s3://{bucket}/{key}");
                        prop_assert!(!minio::lists(&document, bucket, &key), "lists s3://{bucket}/{key}");
                    }
                }
            }
        }
    }

    #[test]
    fn more_is_wanted_and_nothing_is_lost(grants in grants(), more in grants()) {
        let all: Vec<_> = grants.iter().chain(&more).cloned().collect();
        if let Ok(policy) = Policy::new(&all) {
            let document = document(&policy);
            for grant in &all {
                prop_assert!(minio::reads(&document, &grant.bucket, &grant.prefix));
            }
            prop_assert_eq!(policy, Policy::new(all.iter().rev()).expect("as before"), "the order matters");
        }
    }
}
