//! What an answer means that isn't the one asked for.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, SERVER};
use serde::Deserialize;

use crate::error::{Error, Right};

/// What was asked for, as far as an error has to say.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a str,
    pub(crate) right: Right,
    pub(crate) access_key: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    code: String,
}

impl Asked<'_> {
    /// Why it was refused.
    pub(crate) fn refused(self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let host = self.host.to_owned();
        let said = status.as_u16();
        let json = serde_json::from_slice::<Refusal>(body)
            .ok()
            .map(|refusal| word(&refusal.code));
        let xml = between(&String::from_utf8_lossy(body), "<Code>", "</Code>").map(word);
        // Before a request comes to its admin API, MinIO answers as to any other: in XML.
        let minio = headers
            .get(SERVER)
            .is_some_and(|server| server.as_bytes().starts_with(b"MinIO"));
        let code = match (json, xml) {
            (Some(code), _) => code,
            (None, Some(code)) if minio || code == "RequestTimeTooSkewed" => code,
            // What stands in front of a store answers for it when it is down.
            _ if matches!(said, 429 | 500..) => String::new(),
            (None, xml) => return self.not_minio(status, headers, xml.as_deref()),
        };
        let answer = if code.is_empty() {
            said.to_string()
        } else {
            format!("{said} {code}")
        };
        match (said, code.as_str()) {
            (_, "RequestTimeTooSkewed") => Error::Clock { host },
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidTokenId" | "ExpiredToken") => {
                Error::Credentials { host, answer }
            }
            (_, "AccessDenied") => Error::Forbidden {
                host,
                right: self.right,
            },
            // A MinIO that is a gateway to another store, or an old one.
            (_, "XMinioAdminVersionMismatch") => Error::NotMinio { host, answer },
            // The first is today's; releases before had one for the user's own and one for another's.
            (400, "XMinioIAMServiceAccountNotAllowed" | "XMinioIAMServiceAccount" | "XMinioIAMServiceAccountUsed")
                if self.right == Right::Create =>
            {
                Error::Taken {
                    host,
                    access_key: self.access_key.to_owned(),
                }
            }
            (404, "XMinioInvalidIAMCredentials") => Error::NoAccount {
                host,
                access_key: self.access_key.to_owned(),
            },
            (429 | 500.., _) => Error::Unavailable { host, answer },
            _ => Error::Refused { host, answer },
        }
    }

    /// Somebody else answers.
    pub(crate) fn not_minio(self, status: StatusCode, headers: &HeaderMap, code: Option<&str>) -> Error {
        let mut answer = status.as_u16().to_string();
        if let Some(code) = code.filter(|code| !code.is_empty()) {
            answer = format!("{answer} {code}");
        } else if is_html(headers) {
            answer.push_str(" with a web page");
        }
        Error::NotMinio {
            host: self.host.to_owned(),
            answer,
        }
    }
}

pub(crate) fn is_html(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/html"))
}

/// Codes are short words; anything else that a server sends there is not repeated to people.
fn word(text: &str) -> String {
    let fits = text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits { text.to_owned() } else { String::new() }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}
