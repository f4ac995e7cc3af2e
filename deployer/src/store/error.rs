//! What can go wrong at a store, each with what to do about it.

use std::error::Error as _;

/// What was asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Listing what is below a path.
    List,
    /// Reading an object.
    Read,
    /// Writing an object.
    Write,
}

impl Doing {
    fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// What a store calls the right to it.
    fn right(self, uri: &str) -> &'static str {
        match (Cloud::of(uri), self) {
            (Cloud::Amazon, Self::List) => "in S3's words s3:ListBucket",
            (Cloud::Amazon, Self::Read) => "in S3's words s3:GetObject",
            (Cloud::Amazon, Self::Write) => "in S3's words s3:PutObject",
            (Cloud::Google, Self::List) => "in Google's words storage.objects.list",
            (Cloud::Google, Self::Read) => "in Google's words storage.objects.get",
            (Cloud::Google, Self::Write) => "in Google's words storage.objects.create",
            (Cloud::Azure, Self::List | Self::Read) => "in Azure's words the role Storage Blob Data Reader",
            (Cloud::Azure, Self::Write) => "in Azure's words the role Storage Blob Data Contributor",
        }
    }
}

/// Whose words a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloud {
    Amazon,
    Google,
    Azure,
}

impl Cloud {
    fn of(uri: &str) -> Self {
        match uri.split("://").next() {
            Some("gs") => Self::Google,
            Some("https") => Self::Azure,
            _ => Self::Amazon,
        }
    }

    /// What objects lie in.
    fn bucket(self) -> &'static str {
        match self {
            Self::Amazon | Self::Google => "bucket",
            Self::Azure => "container",
        }
    }
}

/// What Google's service for tokens says to what `gcloud` kept of a log-in that is over.
const LOGGED_OUT: &str = "invalid_grant";
/// How the codes of Microsoft's begin (Entra; `AADSTS7000215` is a wrong secret).
const ENTRA: &str = "AADSTS";

/// Why a store didn't do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such bucket.
    #[error("{host} has no {} `{bucket}`", Cloud::of(uri).bucket())]
    NoBucket {
        /// The store.
        host: String,
        /// The bucket, or Azure's container.
        bucket: String,
        /// What was asked for there.
        uri: String,
    },
    /// The store doesn't know the key, or its secret is another one.
    #[error("{host} doesn't accept these credentials ({code})")]
    WrongKey {
        /// The store.
        host: String,
        /// The store's word for it.
        code: String,
    },
    /// There are no credentials.
    #[error("there are no credentials for {host}")]
    NoKey {
        /// The store.
        host: String,
        /// What was asked for there.
        uri: String,
    },
    /// The key may not do this.
    #[error("not allowed to {} {uri}", doing.word())]
    Denied {
        /// What was asked.
        doing: Doing,
        /// Of what.
        uri: String,
        /// The bucket.
        bucket: String,
    },
    /// There is no such object.
    #[error("there is nothing at {uri}")]
    NotFound {
        /// Where.
        uri: String,
    },
    /// The store, or the bucket's quota, is full.
    #[error("can't write {uri}: {} is full ({code})", if code.contains("Quota") { format!("the quota of the bucket `{bucket}`") } else { "the store".to_owned() })]
    Full {
        /// Where.
        uri: String,
        /// The bucket.
        bucket: String,
        /// The store's word for it.
        code: String,
    },
    /// The store no longer has what was sent of an object in parts.
    #[error("the store forgot parts of {uri} that it had")]
    Forgotten {
        /// Which object.
        uri: String,
    },
    /// What came to the store is not what it was to be.
    #[error("what came to {uri} is not what was read here before")]
    OtherContent {
        /// Which object.
        uri: String,
    },
    /// Nobody answers.
    #[error("no answer from {host}: {reason}")]
    Unreachable {
        /// The store.
        host: String,
        /// The innermost cause.
        reason: String,
    },
    /// The bucket lies in another region than was said.
    #[error("the bucket `{bucket}` is in another region")]
    Region {
        /// The bucket.
        bucket: String,
    },
    /// The settings make no client.
    #[error("these settings make no client for {host}: {reason}")]
    Unusable {
        /// The store.
        host: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A place that can't be looked at from here.
    #[error("{uri} can't be looked at from here")]
    Elsewhere {
        /// Where.
        uri: String,
    },
    /// Anything else.
    #[error("can't {} {uri}: {reason}", doing.word())]
    Failed {
        /// What was asked.
        doing: Doing,
        /// Of what.
        uri: String,
        /// The store's words.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::NoBucket { bucket, uri, .. } => format!(
                "make the {} `{bucket}`, or name one that is there; is it the right endpoint?",
                Cloud::of(uri).bucket()
            ),
            Self::WrongKey { code, .. } if code == LOGGED_OUT => {
                "log in again: `gcloud auth application-default login`".to_owned()
            }
            Self::WrongKey { code, .. } if code.starts_with(ENTRA) => {
                "look at AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: has the application's secret expired?".to_owned()
            }
            Self::WrongKey { .. } => {
                "look at the key and its secret, and whether they are for this endpoint".to_owned()
            }
            Self::NoKey { uri, .. } => {
                let how = match Cloud::of(uri) {
                    Cloud::Amazon => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws",
                    Cloud::Google => "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
                    Cloud::Azure => {
                        "AZURE_STORAGE_ACCESS_KEY, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
                    }
                };
                format!("give a key: {how}")
            }
            Self::Denied { doing, uri, bucket } => format!(
                "ask for the right to {} there, in the {} `{bucket}` ({}), or take another key",
                doing.word(),
                Cloud::of(uri).bucket(),
                doing.right(uri)
            ),
            Self::NotFound { .. } => "look whether the path is right; paths are case-sensitive".to_owned(),
            Self::Full { .. } => "make room there, ask for a larger quota, or take another store".to_owned(),
            Self::Forgotten { .. } => "run it again: the object is begun anew then".to_owned(),
            Self::OtherContent { .. } => "run it again: the file was written meanwhile, or the line spoilt it".to_owned(),
            Self::Unreachable { host, .. } => {
                format!("is {host} the right endpoint, and can this machine reach it?")
            }
            Self::Region { .. } => "name the bucket's region by --s3-region or AWS_REGION".to_owned(),
            Self::Unusable { .. } => "look at the endpoint, the region and the form of the key".to_owned(),
            Self::Elsewhere { .. } => "say what it is by --framework".to_owned(),
            Self::Failed { .. } => "try again; if it stays, ask whoever runs the store".to_owned(),
        }
    }

    /// Whether there is simply nothing there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Which store and which object an error is about.
#[derive(Debug, Clone)]
pub(super) struct About<'a> {
    pub(super) doing: Doing,
    pub(super) host: &'a str,
    pub(super) bucket: &'a str,
    pub(super) uri: String,
}

/// What an error of the client means. Its own text is not passed on: it may quote a signed URL.
pub(super) fn of(error: &object_store::Error, about: About<'_>) -> Error {
    let text = chain(error);
    let code = between(&text, "<Code>", "</Code>").unwrap_or_default().to_owned();
    let status = between(&text, "status code: ", " ").and_then(|status| status.parse::<u16>().ok());
    let About {
        doing,
        host,
        bucket,
        uri,
    } = about;
    let (host, bucket) = (host.to_owned(), bucket.to_owned());
    match code.as_str() {
        // Azure forgets blocks that nobody made a blob of within a week, or when somebody writes the blob meanwhile.
        "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder" | "InvalidBlockList" => return Error::Forgotten { uri },
        "XAmzContentSHA256Mismatch" => return Error::OtherContent { uri },
        "NoSuchBucket" | "ContainerNotFound" => return Error::NoBucket { host, bucket, uri },
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "TokenRefreshRequired" => return Error::WrongKey { host, code },
        "AccessDenied" | "AuthorizationFailure" | "AuthorizationPermissionMismatch" => {
            return Error::Denied { doing, uri, bucket };
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            return Error::Region { bucket };
        }
        code if code.contains("QuotaExceeded") || code.contains("StorageFull") || code == "InsufficientCapacity" => {
            return Error::Full {
                uri,
                bucket,
                code: code.to_owned(),
            };
        }
        _ => {}
    }
    if text.contains("incorrectly configured region") {
        return Error::Region { bucket };
    }
    if text.contains(&format!("\"{LOGGED_OUT}\"")) {
        let code = LOGGED_OUT.to_owned();
        return Error::WrongKey { host, code };
    }
    if let Some(at) = text.find(ENTRA) {
        let code = text[at..].chars().take_while(char::is_ascii_alphanumeric).collect();
        return Error::WrongKey { host, code };
    }
    if text.contains("169.254.169.254") || text.contains("metadata.google.internal") {
        return Error::NoKey { host, uri };
    }
    match (error, status) {
        (object_store::Error::NotFound { .. }, _) => Error::NotFound { uri },
        (object_store::Error::Unauthenticated { .. }, _) | (_, Some(401)) => Error::WrongKey {
            host,
            code: if code.is_empty() { "401".to_owned() } else { code },
        },
        (object_store::Error::PermissionDenied { .. }, _) | (_, Some(403)) => Error::Denied { doing, uri, bucket },
        (_, Some(507)) => Error::Full {
            uri,
            bucket,
            code: "507".to_owned(),
        },
        (_, Some(status)) => {
            let said = if code.is_empty() {
                String::new()
            } else {
                format!(" {code}")
            };
            let reason = format!("{host} answered {status}{said}");
            Error::Failed { doing, uri, reason }
        }
        (object_store::Error::Generic { .. }, None) if text.contains("Error performing") => Error::Unreachable {
            host,
            reason: innermost(error),
        },
        _ => Error::Failed {
            doing,
            uri,
            reason: innermost(error),
        },
    }
}

/// Every cause's words.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push('\n');
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The cause that says something: those around it say "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Error {
        let error = object_store::Error::Generic {
            store: "S3",
            source: text.into(),
        };
        of(
            &error,
            About {
                doing: Doing::Write,
                host: "minio:9000",
                bucket: "models",
                uri: "s3://models/a".into(),
            },
        )
    }

    #[test]
    fn a_stores_codes_become_one_sentence_each() {
        let status = |status: &str, code: &str| {
            let error = error(&format!(
                "Server returned non-2xx status code: {status} X: <Error><Code>{code}</Code><Key>a</Key></Error>"
            ));
            format!("{error}; {}", error.next())
        };
        assert!(status("404", "NoSuchBucket").starts_with("minio:9000 has no bucket `models`; make the bucket"));
        assert!(status("403", "SignatureDoesNotMatch").starts_with("minio:9000 doesn't accept these credentials"));
        assert!(status("403", "AccessDenied").starts_with(
            "not allowed to write s3://models/a; ask for the right to write there, in the bucket `models` (in S3's words s3:PutObject)"
        ));
        let denied = |uri: &str| {
            Error::Denied {
                doing: Doing::Write,
                uri: uri.into(),
                bucket: "models".into(),
            }
            .next()
        };
        assert!(denied("gs://models/a").contains("in the bucket `models` (in Google's words storage.objects.create)"));
        assert!(
            denied("https://ml.blob.core.windows.net/models/a")
                .contains("in the container `models` (in Azure's words the role Storage Blob Data Contributor)")
        );
        assert!(status("507", "XMinioStorageFull").starts_with("can't write s3://models/a: the store is full"));
        assert!(
            status("400", "XMinioAdminBucketQuotaExceeded")
                .starts_with("can't write s3://models/a: the quota of the bucket `models` is full")
        );
        assert!(status("400", "InvalidPart").starts_with("the store forgot parts of s3://models/a that it had"));
        assert!(status("500", "InternalError").starts_with("can't write s3://models/a: minio:9000 answered 500 Int"));
    }
}
