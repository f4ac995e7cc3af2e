//! Where a model lies: the URIs that KServe's storage initializer understands, and patterns over them.
//!
//! Source of the forms: `python/storage/kserve_storage/kserve_storage.py` of KServe 0.15 to 0.20.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::wildcard;

/// What stands before the colon of a [`StorageUri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `s3://bucket/key`
    S3,
    /// `gs://bucket/key`
    Gs,
    /// `https://host/path`; also Azure's blob and file hosts, see [`StorageUri::azure`].
    Https,
    /// `http://host/path`
    Http,
    /// `hf://owner/model[:revision]`
    Hf,
    /// `hdfs://path`: no host, the name node comes with the credentials.
    Hdfs,
    /// `webhdfs://path`: no host, the name node comes with the credentials.
    WebHdfs,
    /// `pvc://claim/path`
    Pvc,
    /// `oci://registry/image:tag`, also with a mode: `oci+native://…`
    Oci,
    /// `file:///path`, or a path without a scheme.
    File,
    /// Anything else: a ClusterStorageContainer may know it.
    Other,
}

impl Scheme {
    /// The schemes that KServe itself can load, for a person.
    pub const KNOWN: &str = "s3, gs, hf, http(s), hdfs, webhdfs, pvc, oci";

    /// The text before `://`; empty for [`Scheme::Other`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Https => "https",
            Self::Http => "http",
            Self::Hf => "hf",
            Self::Hdfs => "hdfs",
            Self::WebHdfs => "webhdfs",
            Self::Pvc => "pvc",
            Self::Oci => "oci",
            Self::File => "file",
            Self::Other => "",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "s3" => Self::S3,
            "gs" => Self::Gs,
            "https" => Self::Https,
            "http" => Self::Http,
            "hf" => Self::Hf,
            "hdfs" => Self::Hdfs,
            "webhdfs" => Self::WebHdfs,
            "pvc" => Self::Pvc,
            "file" => Self::File,
            _ if text == "oci" || text.starts_with("oci+") => Self::Oci,
            _ => Self::Other,
        }
    }

    /// Whether the part after `://` up to the first slash is a name of its own (a bucket, a host, an owner, a claim).
    fn has_authority(self) -> bool {
        !matches!(self, Self::Hdfs | Self::WebHdfs | Self::File | Self::Other)
    }

    /// Whether a model of this scheme is loaded without credentials for a store.
    pub fn needs_no_credentials(self) -> bool {
        matches!(self, Self::Pvc | Self::Oci | Self::File)
    }
}

/// Why a text is not the URI of a model that KServe could load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Nothing, or only blanks.
    #[error("the storage URI is empty; write where the model lies, such as s3://bucket/path")]
    Empty,
    /// A scheme that KServe's storage initializer doesn't know, with what to write instead.
    #[error("KServe can't load `{uri}`: {reason}")]
    Unsupported {
        /// The URI, without a password.
        uri: String,
        /// Why, and what to write instead.
        reason: String,
    },
    /// A URI that nobody could load.
    #[error("`{uri}` is not a storage URI: {reason}")]
    Malformed {
        /// The URI, without a password.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The URI of a model, well formed. Its text stays as it was written, which `Display` gives back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StorageUri {
    text: String,
    scheme: Scheme,
    authority: Range<usize>,
    key: Range<usize>,
}

/// The parts of an Azure URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AzureUri<'a> {
    /// The storage account.
    pub account: &'a str,
    /// The container, or the share of a file host.
    pub container: &'a str,
    /// The path in the container, without slashes around it.
    pub path: &'a str,
}

impl StorageUri {
    /// Reads a URI.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.trim().is_empty() {
            return Err(UriError::Empty);
        }
        let malformed = |reason: &str| UriError::Malformed {
            uri: without_password(text),
            reason: reason.to_owned(),
        };
        if text.trim() != text {
            return Err(malformed("it begins or ends with a blank"));
        }
        if text.chars().any(char::is_control) {
            return Err(malformed("it has a control character in it"));
        }
        if let Some(reason) = unsupported(text) {
            return Err(UriError::Unsupported {
                uri: without_password(text),
                reason,
            });
        }
        let Some((scheme_text, rest)) = text.split_once("://") else {
            if text.contains(':') && !text.starts_with('/') {
                return Err(malformed(
                    "after the scheme come a colon and two slashes, such as s3://bucket/path",
                ));
            }
            return Self::local(text, 0).map_err(|()| malformed(DOT_SEGMENTS));
        };
        let scheme = Scheme::of(scheme_text);
        let start = scheme_text.len() + 3;
        if scheme == Scheme::File {
            return Self::local(text, start).map_err(|()| malformed(DOT_SEGMENTS));
        }
        let authority_end = if scheme.has_authority() {
            start + rest.find('/').unwrap_or(rest.len())
        } else {
            start
        };
        let authority = &text[start..authority_end];
        let cut = match scheme {
            // Python's urlparse, which KServe uses for these, ends the path at either; what follows would be lost without a word.
            Scheme::S3 if rest.contains(['?', '#']) => return Err(malformed("KServe ends an s3 key at `?` and `#`")),
            Scheme::Https | Scheme::Http => start + rest.find(['?', '#']).unwrap_or(rest.len()),
            _ => text.len(),
        };
        if cut < authority_end || (authority.is_empty() && scheme.has_authority()) {
            return Err(malformed(match scheme {
                Scheme::S3 | Scheme::Gs => "the bucket's name is missing",
                Scheme::Pvc => "the claim's name is missing",
                Scheme::Hf => "the owner's name is missing; write hf://owner/model",
                _ => "the host's name is missing",
            }));
        }
        if authority.contains('@') {
            return Err(malformed(
                "it has a user or password in it, which anyone who sees the Pod could read",
            ));
        }
        // AWS takes the ARN of an access point for a bucket's name.
        let is_arn = scheme == Scheme::S3 && authority.starts_with("arn:");
        if matches!(scheme, Scheme::S3 | Scheme::Gs)
            && (authority.contains(['*', '%', '\\']) || (authority.contains(':') && !is_arn))
        {
            return Err(malformed("the bucket's name has a character in it that no bucket has"));
        }
        if scheme.has_authority() && authority.contains(char::is_whitespace) {
            return Err(malformed("it has a blank before its path"));
        }
        let key = trim_slashes(text, authority_end..cut);
        if has_dot_segments(&text[key.clone()]) {
            return Err(malformed(DOT_SEGMENTS));
        }
        if scheme == Scheme::Hf {
            let model = &text[key.clone()];
            if model.is_empty() || model.starts_with(':') || model.contains(|c: char| c == '/' || c.is_whitespace()) {
                return Err(malformed("write hf://owner/model or hf://owner/model:revision"));
            }
            // `_download_hf` of KServe's storage initializer counts the parts between slashes.
            if key != (authority_end + 1..text.len()) {
                let plain = format!("hf://{authority}/{model}");
                return Err(malformed(&format!(
                    "KServe takes one slash in it, and no more; write {plain}"
                )));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            scheme,
            authority: start..authority_end,
            key,
        })
    }

    fn local(text: &str, start: usize) -> Result<Self, ()> {
        let key = trim_slashes(text, start..text.len());
        if has_dot_segments(&text[key.clone()]) {
            return Err(());
        }
        Ok(Self {
            text: text.to_owned(),
            scheme: Scheme::File,
            authority: start..start,
            key,
        })
    }

    /// The URI as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the colon.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket, host (with port), owner or claim; empty for schemes that have none.
    pub fn authority(&self) -> &str {
        &self.text[self.authority.clone()]
    }

    /// The path below the authority, without slashes at either end, and for `http(s)` without query. Percent escapes stand as they were
    /// written: KServe takes them literally in every scheme but `http(s)`.
    pub fn key(&self) -> &str {
        &self.text[self.key.clone()]
    }

    /// The path with its slashes as they were written, but for those before it: `s3://bucket/a/` has `a/`.
    pub fn key_as_written(&self) -> &str {
        let end = self.key.end
            + self.text[self.key.end..]
                .bytes()
                .take_while(|byte| *byte == b'/')
                .count();
        &self.text[self.key.start..end]
    }

    /// The revision of an `hf://owner/model:revision`.
    pub fn revision(&self) -> Option<&str> {
        (self.scheme == Scheme::Hf)
            .then(|| self.key().split_once(':'))?
            .map(|(_, revision)| revision)
            .filter(|revision| !revision.is_empty())
    }

    /// The URI to write for all of an Azure container, or share, where the slash behind its name is missing: KServe splits the path there, and ends without it
    /// (`_parse_azure_uri` in `python/storage/kserve_storage/kserve_storage.py` of KServe 0.20).
    pub fn with_slash_behind_container(&self) -> Option<String> {
        let azure = self.azure()?;
        let has_slash = self.key_as_written().contains('/');
        (!has_slash).then(|| format!("https://{}/{}/", self.authority(), azure.container))
    }

    /// Account, container and path, where this is a URI of Azure's blob or file storage.
    pub fn azure(&self) -> Option<AzureUri<'_>> {
        if self.scheme != Scheme::Https {
            return None;
        }
        let (account, host) = self.authority().split_once('.')?;
        let zone_of = |suffix: &str| {
            host.strip_suffix(suffix).is_some_and(|zone| {
                zone.strip_prefix('z').is_some_and(|digits| {
                    (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
                })
            })
        };
        let known = ["blob.core.windows.net", "file.core.windows.net"].contains(&host)
            || zone_of(".blob.storage.azure.net")
            || zone_of(".file.storage.azure.net");
        let (container, path) = self.key().split_once('/').unwrap_or((self.key(), ""));
        (known && !account.is_empty() && !container.is_empty()).then_some(AzureUri {
            account,
            container,
            path,
        })
    }

    /// The URI of something below this one, with exactly one slash between; a query stays behind the path.
    ///
    /// # Errors
    /// Where `path` has dot segments.
    pub fn join(&self, path: &str) -> Result<Self, UriError> {
        let (head, tail) = self.text.split_at(self.key.end.max(self.authority.end));
        let tail = tail.trim_start_matches('/');
        let head = head.trim_end_matches('/');
        Self::parse(&format!("{head}/{}{tail}", path.trim_matches('/')))
    }
}

const DOT_SEGMENTS: &str = "its path has a `.` or `..` segment; write the path that is meant";

fn trim_slashes(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start_matches('/').len());
    let end = range.end - (part.len() - part.trim_end_matches('/').len());
    start..end.max(start)
}

/// A segment that a server, or a client that resolves paths, would take for "here" or "up": also escaped once.
fn has_dot_segments(key: &str) -> bool {
    key.split(['/', '\\']).any(|segment| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "."
            || plain == ".."
            || ["%2f", "%2F", "%5c", "%5C"]
                .iter()
                .any(|escape| plain.contains(escape) && plain.contains(".."))
    })
}

/// The URI as it may be shown: what stands before an `@` of the authority is masked.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{}", &rest[authority.len()..]),
        None => text.to_owned(),
    }
}

/// Why KServe's storage initializer can't load this, and what to write instead; none where the scheme may be fine.
fn unsupported(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let shown = without_password(text);
    let path = shown[scheme.len() + 1..].trim_start_matches('/');
    let mlflow = |what: &str| {
        Some(format!(
            "`{scheme}:` names {what} of an MLflow server, which KServe doesn't ask; write the URI of its artifacts in the store, such as \
             s3://mlflow/1/models/m-…/artifacts (MLflow shows it as the model's artifact location; `mlflow.artifacts` prints it)"
        ))
    };
    match scheme {
        "models" => mlflow("a registered model"),
        "runs" => mlflow("a run"),
        "mlflow-artifacts" => mlflow("an artifact behind the proxy"),
        "dbfs" => Some(
            "it lies in Databricks' file system; copy the model to a store that KServe reads, such as s3://bucket/path"
                .to_owned(),
        ),
        "s3a" | "s3n" => Some(format!("`{scheme}` is Hadoop's name for it; write s3://{path}")),
        "gcs" => Some(format!("write gs://{path}")),
        "huggingface" => Some(format!("write hf://{path}")),
        // What stands before the `@` is the container here, not a user.
        "abfs" | "abfss" | "wasb" | "wasbs" | "azure" | "az" => {
            Some(match rest.trim_start_matches('/').split_once('@') {
                Some((container, rest)) => {
                    let account = rest.split(['.', '/']).next().unwrap_or("account");
                    let key = rest.split_once('/').map_or("", |(_, key)| key);
                    format!("write https://{account}.blob.core.windows.net/{container}/{key}")
                }
                None => "write https://account.blob.core.windows.net/container/path".to_owned(),
            })
        }
        _ if rest.starts_with("//") && scheme.chars().any(|c| c.is_ascii_uppercase()) => Some(format!(
            "a scheme is written in small letters: {}://{path}",
            scheme.to_ascii_lowercase()
        )),
        _ => None,
    }
}

impl fmt::Display for StorageUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for StorageUri {
    type Err = UriError;
    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

/// What a backend serves, or a namespace may use: a prefix in whole path segments, in which `*` stands for any run of characters within a segment.
///
/// `s3://mlflow/team-a/` holds everything below `team-a`, never `team-ab`. With the slash at its end it doesn't hold `s3://mlflow/team-a` itself: KServe
/// downloads by text prefix, and would take `team-ab` along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriPattern {
    text: String,
    scheme: Scheme,
    authority: String,
    segments: Vec<String>,
    /// Only what is below, or the prefix itself written with a slash at its end.
    below: bool,
}

/// The place in a grant's prefix where the namespace's name goes.
pub const NAMESPACE: &str = "{namespace}";

impl UriPattern {
    /// Reads a pattern; the error completes the sentence "the prefix `…` …".
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(problem) = wildcard::problem(&text.replace(NAMESPACE, "n")) {
            return Err(problem);
        }
        if text.contains("**") {
            return Err("has `**`; a prefix holds everything below it anyway".to_owned());
        }
        let Some((scheme_text, rest)) = text.split_once("://") else {
            return Err("has no scheme; write it as in s3://bucket/path/".to_owned());
        };
        let scheme = Scheme::of(scheme_text);
        match scheme {
            Scheme::Other => return Err(format!("has the scheme `{scheme_text}`, which no backend serves")),
            scheme if scheme.needs_no_credentials() => {
                return Err(format!("has the scheme `{scheme_text}`, which needs no credentials"));
            }
            _ => {}
        }
        let (authority, path) = if scheme.has_authority() {
            rest.split_once('/').unwrap_or((rest, ""))
        } else {
            ("", rest)
        };
        if authority.is_empty() && !path.is_empty() && scheme.has_authority() {
            return Err("has a path but no bucket or host".to_owned());
        }
        if authority.contains('@') || rest.contains(['#', '%']) {
            return Err("has a character in it that is not matched: `@`, `#` or `%`".to_owned());
        }
        if has_dot_segments(path) {
            return Err("has a `.` or `..` segment".to_owned());
        }
        let path = path.trim_start_matches('/');
        let trimmed = path.trim_end_matches('/');
        let segments: Vec<_> = if trimmed.is_empty() {
            Vec::new()
        } else {
            trimmed.split('/').map(str::to_owned).collect()
        };
        Ok(Self {
            text: text.to_owned(),
            scheme,
            authority: authority.to_ascii_lowercase(),
            below: !segments.is_empty() && path.ends_with('/'),
            segments,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme of every URI that it holds.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What stands before the first `*`.
    pub fn literal(&self) -> &str {
        self.text.split('*').next().unwrap_or(&self.text).trim_end_matches('/')
    }

    /// Among patterns that hold a URI, the greatest is taken: the one with the longest text before its first `*`, then the longest.
    /// Equal only where the patterns are.
    pub fn closeness(&self) -> impl Ord {
        let text = self.text.trim_end_matches('/');
        (self.literal().len(), text.len(), text.to_owned())
    }

    /// Whether the URI lies below this prefix.
    pub fn holds(&self, uri: &StorageUri) -> bool {
        self.holds_for(uri, "")
    }

    /// Whether the URI lies below this prefix with `{namespace}` replaced.
    pub fn holds_for(&self, uri: &StorageUri, namespace: &str) -> bool {
        if self.scheme != uri.scheme {
            return false;
        }
        let matches = |pattern: &str, text: &str| {
            if pattern.contains(NAMESPACE) {
                wildcard::matches(&pattern.replace(NAMESPACE, namespace), text)
            } else {
                wildcard::matches(pattern, text)
            }
        };
        let authority = if matches!(self.scheme, Scheme::Https | Scheme::Http) {
            uri.authority().to_ascii_lowercase()
        } else {
            uri.authority().to_owned()
        };
        if !self.authority.is_empty() && !matches(&self.authority, &authority) {
            return false;
        }
        let key = match uri.revision() {
            Some(revision) => &uri.key()[..uri.key().len() - revision.len() - 1],
            None => uri.key(),
        };
        let mut found = if key.is_empty() { 0 } else { key.split('/').count() };
        if !self
            .segments
            .iter()
            .zip(key.split('/'))
            .all(|(pattern, segment)| matches(pattern, segment))
        {
            return false;
        }
        if self.below && uri.key_as_written().ends_with('/') {
            found += 1;
        }
        found >= self.segments.len() + usize::from(self.below)
    }

    /// The beginning of a URI's key that this prefix stands for, where it [holds](Self::holds_for) the URI: with a slash at its end if only what is below
    /// counts.
    pub(crate) fn root_of<'u>(&self, uri: &'u StorageUri) -> &'u str {
        let key = uri.key_as_written();
        let Some(last) = self.segments.len().checked_sub(1) else {
            return "";
        };
        match key.match_indices('/').nth(last) {
            Some((slash, _)) => &key[..slash + usize::from(self.below)],
            None => key,
        }
    }

    /// The prefix as a namespace sees it.
    pub fn shown_for(&self, namespace: &str) -> String {
        self.text.replace(NAMESPACE, namespace)
    }
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
