//! What lies in the stores of a case.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use tidewaiter_engine::world::{Listing, ObjectInfo, StorageError};

/// An object in a store, or what a part of a store answers instead.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub enum Stored {
    /// An object with this content.
    Bytes(Bytes),
    /// An object of this size whose bytes are all zero: for models of gigabytes.
    Size(u64),
    /// Whatever is asked at or below this URI: the store doesn't answer.
    Unreachable,
    /// Whatever is asked at or below this URI: the store refuses.
    Forbidden,
}

const FORMS: &str = "a text, or one of {text: …}, {base64: …}, {size: BYTES}, {fails: unreachable}, {fails: forbidden}";

impl TryFrom<serde_json::Value> for Stored {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        use serde_json::Value;
        let wrong = || format!("what lies in a store is {FORMS}");
        match value {
            Value::String(text) => Ok(Self::Bytes(text.into())),
            Value::Object(members) if members.len() == 1 => {
                let (name, value) = members.into_iter().next().ok_or_else(wrong)?;
                match (name.as_str(), value) {
                    ("text", Value::String(text)) => Ok(Self::Bytes(text.into())),
                    ("base64", Value::String(text)) => STANDARD
                        .decode(text.split_whitespace().collect::<String>())
                        .map(|bytes| Self::Bytes(bytes.into()))
                        .map_err(|error| format!("what should be base64 is not: {error}")),
                    ("size", Value::Number(size)) => size.as_u64().map(Self::Size).ok_or_else(wrong),
                    ("fails", Value::String(how)) if how == "unreachable" => Ok(Self::Unreachable),
                    ("fails", Value::String(how)) if how == "forbidden" => Ok(Self::Forbidden),
                    _ => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }
}

impl Stored {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Size(size) => *size,
            Self::Unreachable | Self::Forbidden => 0,
        }
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Bytes(_) | Self::Size(_))
    }

    /// Fewer bytes at the end, none past it.
    pub(super) fn read(&self, offset: u64, length: u32) -> Bytes {
        let left = self.size().saturating_sub(offset).min(u64::from(length));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        match self {
            Self::Bytes(bytes) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(begin..begin + left)
            }
            _ => vec![0; left].into(),
        }
    }
}

/// What is asked at or below a part of a store that fails.
pub(super) fn failure(stored: &BTreeMap<String, Stored>, uri: &str) -> Option<StorageError> {
    let below = |place: &str| {
        let place = place.trim_end_matches('/');
        uri.strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    stored
        .iter()
        .filter(|(place, _)| below(place))
        .find_map(|(place, stored)| match stored {
            Stored::Unreachable => Some(StorageError::Unreachable(format!("{place} didn't answer in time"))),
            Stored::Forbidden => Some(StorageError::Forbidden("access denied".to_owned())),
            _ => None,
        })
}

/// What lies below a URI, in the order of its names.
pub(super) fn listing(stored: &BTreeMap<String, Stored>, uri: &str, limit: u32) -> Listing {
    let folder = format!("{}/", uri.trim_end_matches('/'));
    let mut objects: Vec<_> = stored
        .range(folder.clone()..)
        .map_while(|(uri, stored)| Some((uri.strip_prefix(&folder)?, stored)))
        .filter(|(path, stored)| !path.is_empty() && stored.is_object())
        .map(|(path, stored)| ObjectInfo {
            path: path.to_owned(),
            size: stored.size(),
        })
        .collect();
    let truncated = objects.len() > limit as usize;
    objects.truncate(limit as usize);
    Listing { objects, truncated }
}

/// What stands directly in a folder; a folder in it once, with a `/` at its end.
pub(super) fn folder(stored: &BTreeMap<String, Stored>, uri: &str, limit: u32) -> Listing {
    let mut all = listing(stored, uri, u32::MAX);
    for object in &mut all.objects {
        if let Some((folder, _)) = object.path.split_once('/') {
            object.path = format!("{folder}/");
            object.size = 0;
        }
    }
    all.objects.dedup_by(|a, b| a.path == b.path);
    all.truncated = all.objects.len() > limit as usize;
    all.objects.truncate(limit as usize);
    all
}
