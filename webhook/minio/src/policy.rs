//! What a minted key may read, as MinIO's policy language has it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

/// The most bytes that MinIO takes for the policy of an access key (`maxSVCSessionPolicySize` in its `cmd/iam.go`). It counts its own writing of the
/// policy, not the one that it was sent.
pub const LIMIT: usize = 4096;

/// A prefix of a bucket that is wanted, and the granted root that it lies in. That it does is checked when it is made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    bucket: String,
    root: String,
    prefix: String,
}

/// Why a prefix can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// The prefix isn't inside of the root.
    #[error("s3://{bucket}/{prefix} is not in s3://{bucket}/{root}, which is granted")]
    Outside {
        /// The bucket.
        bucket: String,
        /// What was granted.
        root: String,
        /// What was wanted.
        prefix: String,
    },
    /// `*`, `?` and `${` stand for other text in a policy, and nothing takes that away.
    #[error(
        "the granted prefix s3://{bucket}/{root} has `*`, `?` or `${{` in it, which in MinIO's policies stand for any text: grant a prefix without them"
    )]
    Wildcard {
        /// The bucket.
        bucket: String,
        /// What was granted.
        root: String,
    },
    /// This is no bucket's name.
    #[error("`{0}` can't be a bucket's name")]
    Bucket(String),
}

impl Grant {
    /// A prefix that is wanted, inside of a root that is granted. Both are keys, without the slash before them. A root counts by whole segments, as a
    /// backend's grants do: `a` has `a` and what is below `a/` in it, but not `ab`; `a/` has only what is below; the empty one has all of the bucket.
    /// The prefix is what the storage initializer lists by: the path of a model's URI as it is written.
    pub fn new(bucket: &str, root: &str, prefix: &str) -> Result<Self, NotGranted> {
        if !is_bucket(bucket) {
            return Err(NotGranted::Bucket(bucket.to_owned()));
        }
        if wildcard(root).is_some() {
            return Err(NotGranted::Wildcard {
                bucket: bucket.to_owned(),
                root: root.to_owned(),
            });
        }
        if prefix != root && !prefix.starts_with(&folder(root)) {
            return Err(NotGranted::Outside {
                bucket: bucket.to_owned(),
                root: root.to_owned(),
                prefix: prefix.to_owned(),
            });
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            root: root.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

fn is_bucket(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Where text begins that a policy would not take literally.
fn wildcard(text: &str) -> Option<usize> {
    [text.find(['*', '?']), text.find("${")].into_iter().flatten().min()
}

/// What every key below a root begins with.
fn folder(root: &str) -> String {
    if root.is_empty() || root.ends_with('/') {
        root.to_owned()
    } else {
        format!("{root}/")
    }
}

/// A part of a bucket that a policy can name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Every key that begins with this.
    Beginning(String),
    /// This key alone.
    Exactly(String),
}

impl Part {
    fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Beginning(text), Self::Beginning(other) | Self::Exactly(other)) => other.starts_with(text.as_str()),
            (Self::Exactly(text), Self::Exactly(other)) => text == other,
            (Self::Exactly(_), Self::Beginning(_)) => false,
        }
    }

    fn pattern(&self) -> String {
        match self {
            Self::Beginning(text) => format!("{text}*"),
            Self::Exactly(text) => text.clone(),
        }
    }
}

/// The parts that hold a prefix, none of them with anything outside of the root.
///
/// The initializer lists by a path without the slash behind it, takes all that begins with it, siblings too, and fails where it can't read one. So a
/// prefix stands for all keys that begin with it, where that stays inside of the root.
fn parts(root: &str, prefix: &str) -> Vec<Part> {
    let folder = folder(root);
    if prefix.starts_with(&folder) {
        // What comes behind a wildcard can't be told apart, so it is left open. The root has none, so this stays inside.
        let literal = wildcard(prefix).unwrap_or(prefix.len());
        return vec![Part::Beginning(prefix[..literal].to_owned())];
    }
    vec![Part::Exactly(root.to_owned()), Part::Beginning(folder)]
}

/// Without those that another one holds.
fn reduced(mut parts: Vec<Part>) -> Vec<Part> {
    // Beginnings come first, and each right behind the one that holds it.
    parts.sort_unstable();
    parts.dedup_by(|next, kept| kept.holds(next));
    let exactly = parts.partition_point(|part| matches!(part, Part::Beginning(_)));
    let keys = parts.split_off(exactly);
    let free: Vec<_> = keys
        .into_iter()
        .filter(|key| !parts.iter().any(|part| part.holds(key)))
        .collect();
    parts.extend(free);
    parts
}

/// A policy under which prefixes of buckets can be listed and read. There is none that allows nothing: MinIO takes an empty policy for none, and a
/// key without policy can do all that its user can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    document: Document,
    json: String,
    length: usize,
}

/// Why no policy can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPolicy {
    /// It would be longer than MinIO takes.
    #[error(
        "the key's policy would have {length} bytes, and MinIO takes {LIMIT}: {prefixes} prefixes below {roots} granted ones, even where the granted ones \
         stand for all below them; grant fewer or shorter prefixes, or give the backend static `credentials`"
    )]
    TooLarge {
        /// How long the shortest is.
        length: usize,
        /// How many prefixes are wanted.
        prefixes: usize,
        /// In how many roots.
        roots: usize,
    },
    /// There is no grant.
    #[error(
        "nothing is wanted, and a key that may read nothing can't be said in MinIO's policies: delete the key instead"
    )]
    NothingWanted,
}

impl Policy {
    /// The policy for all of these. Prefixes are said one by one as long as they fit into [`LIMIT`]; then those of a root become the root, first where
    /// that saves most.
    pub fn new<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Result<Self, NoPolicy> {
        let mut wanted: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for grant in grants {
            wanted
                .entry((&grant.bucket, &grant.root))
                .or_default()
                .insert(&grant.prefix);
        }
        if wanted.is_empty() {
            return Err(NoPolicy::NothingWanted);
        }
        let mut roots: Vec<_> = wanted
            .iter()
            .map(|(root, prefixes)| Root::new(root, prefixes))
            .collect();
        roots.sort_by_key(|root| std::cmp::Reverse(root.saving));
        let worthwhile = roots.partition_point(|root| root.saving > 0);
        // First the shortest: where there are too many roots for any, they need not be tried one after another.
        let shortest = Self::of(&roots, worthwhile);
        if shortest.length > LIMIT {
            return Err(NoPolicy::TooLarge {
                length: shortest.length,
                prefixes: wanted.values().map(BTreeSet::len).sum(),
                roots: wanted.len(),
            });
        }
        Ok((0..worthwhile)
            .map(|collapsed| Self::of(&roots, collapsed))
            .find(|policy| policy.length <= LIMIT)
            .unwrap_or(shortest))
    }

    /// With the first so many roots said as a whole.
    fn of(roots: &[Root], collapsed: usize) -> Self {
        let mut buckets: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
        for (at, root) in roots.iter().enumerate() {
            let parts = if at < collapsed { &root.whole } else { &root.each };
            buckets.entry(root.bucket).or_default().extend_from_slice(parts);
        }
        let buckets = buckets
            .into_iter()
            .map(|(bucket, parts)| (bucket, reduced(parts)))
            .collect();
        let document = Document::new(&buckets);
        // Strings and lists of them: nothing that can't be written.
        let json = serde_json::to_string(&document).unwrap_or_default();
        let length = length(&json);
        Self { document, json, length }
    }

    /// The policy, as MinIO takes it.
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// Whether this is the policy that [`Info`](crate::Info) shows. MinIO keeps no order.
    pub fn is(&self, said: &Value) -> bool {
        serde_json::to_value(&self.document).is_ok_and(|own| sorted(&own) == sorted(said))
    }
}

/// A root, with both ways to say what is wanted of it.
struct Root<'a> {
    bucket: &'a str,
    each: Vec<Part>,
    whole: Vec<Part>,
    /// How many bytes the second is shorter.
    saving: usize,
}

impl<'a> Root<'a> {
    fn new((bucket, root): &(&'a str, &'a str), prefixes: &BTreeSet<&str>) -> Self {
        let each = reduced(prefixes.iter().flat_map(|prefix| parts(root, prefix)).collect());
        let whole = parts(root, root);
        // A part stands in a policy twice: as a resource, and as a prefix to list by.
        let bytes = |parts: &[Part]| -> usize {
            parts
                .iter()
                .map(|part| 2 * length(&part.pattern()) + length(&resource(bucket, "")) + 6)
                .sum()
        };
        let saving = bytes(&each).saturating_sub(bytes(&whole));
        Self {
            bucket,
            each,
            whole,
            saving,
        }
    }
}

/// In the order and with the names of MinIO's own type, whose lists are never single values: its writing is as long as ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: &'static str,
    action: Vec<&'static str>,
    /// The admin API has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    string_like: Prefixes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Prefixes {
    #[serde(rename = "s3:prefix")]
    prefixes: Vec<String>,
}

impl Document {
    fn new(buckets: &BTreeMap<&str, Vec<Part>>) -> Self {
        let objects = buckets
            .iter()
            .flat_map(|(bucket, parts)| {
                parts
                    .iter()
                    .map(|part| resource(bucket, &format!("/{}", part.pattern())))
            })
            .collect();
        let all = buckets.keys().map(|bucket| resource(bucket, "")).collect();
        let mut statement = vec![
            allow(&["s3:GetObject"], objects),
            // boto3 asks where a bucket is, and KServe's initializer whether it is there. MinIO has a right of its own for that since the end of
            // 2023; before, as at Amazon, it was s3:ListBucket without a condition.
            allow(&["s3:GetBucketLocation", "s3:HeadBucket"], all),
        ];
        for (bucket, parts) in buckets {
            let mut list = allow(&["s3:ListBucket"], vec![resource(bucket, "")]);
            if !parts
                .iter()
                .any(|part| matches!(part, Part::Beginning(text) if text.is_empty()))
            {
                list.condition = Some(Condition {
                    string_like: Prefixes {
                        prefixes: parts.iter().map(Part::pattern).collect(),
                    },
                });
            }
            statement.push(list);
        }
        // What isn't allowed is denied anyway, but up to October 2025 not to make a further key of the same user, one without a policy
        // (GHSA-jjjj-jwhf-8rgr): that only a denial stopped.
        statement.push(Statement {
            effect: "Deny",
            ..allow(&["admin:*"], Vec::new())
        });
        Self {
            version: "2012-10-17",
            statement,
        }
    }
}

fn allow(action: &[&'static str], resource: Vec<String>) -> Statement {
    Statement {
        effect: "Allow",
        action: action.to_vec(),
        resource,
        condition: None,
    }
}

fn resource(bucket: &str, rest: &str) -> String {
    format!("arn:aws:s3:::{bucket}{rest}")
}

/// How long JSON is when Go writes it: it spells some characters as `\u003c` that others leave alone.
fn length(json: &str) -> usize {
    let more: usize = json
        .chars()
        .map(|c| match c {
            '<' | '>' | '&' => 5,
            '\u{2028}' | '\u{2029}' => 3,
            _ => 0,
        })
        .sum();
    json.len() + more
}

/// With every list in one order, since MinIO's are sets.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<_> = values.iter().map(sorted).collect();
            values.sort_by_cached_key(Value::to_string);
            Value::Array(values)
        }
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), sorted(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
