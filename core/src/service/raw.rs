//! The fields that we read, as they stand in the JSON text. Everything else is skipped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Text that borrows from the JSON unless it has escapes. (`Option<Cow<str>>` would always copy.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A map of strings, each decoded only when it is asked for: `last-applied-configuration` alone may be as large as the object.
#[derive(Debug, Clone, Default)]
pub(super) struct Strings<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'a> Strings<'a> {
    pub(super) fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        // As in every JSON reader of Kubernetes, the last of two equal keys counts.
        let (_, value) = self.0.iter().rev().find(|(name, _)| name.0 == key)?;
        serde_json::from_str::<Text<'a>>(value.get()).ok().map(|text| text.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Strings<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;
        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if value.get().starts_with('"') {
                        entries.push((key, value));
                    } else if value.get() != "null" {
                        return Err(A::Error::custom(format_args!(
                            "the value of `{}` is not a string",
                            key.0
                        )));
                    }
                }
                Ok(Strings(entries))
            }
        }
        deserializer.deserialize_map(StringsVisitor)
    }
}

/// Whether something is there, whatever it holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Present(pub(super) bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<IgnoredAny>::deserialize(deserializer)?.is_some()))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Option<Strings<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Strings<'a>>,
    pub(super) deletion_timestamp: Present,
}

#[derive(Deserialize)]
pub(super) struct InferenceService<'a> {
    #[serde(borrow, default)]
    pub(super) metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    pub(super) spec: Option<Spec<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Spec<'a> {
    #[serde(borrow)]
    pub(super) predictor: Option<Box<Component<'a>>>,
    #[serde(borrow)]
    pub(super) transformer: Option<Box<Component<'a>>>,
    #[serde(borrow)]
    pub(super) explainer: Option<Box<Component<'a>>>,
    #[serde(borrow)]
    pub(super) canary: Option<Vec<Option<Canary<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Canary<'a> {
    #[serde(borrow)]
    pub(super) predictor: Option<Box<Component<'a>>>,
}

/// Predictor, transformer or explainer: they share their fields, but for the names of the implementations.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Component<'a> {
    #[serde(borrow)]
    pub(super) model: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) sklearn: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) xgboost: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) tensorflow: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) pytorch: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) triton: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) onnx: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) huggingface: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) pmml: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) lightgbm: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) paddle: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) art: Option<Box<Implementation<'a>>>,
    #[serde(borrow)]
    pub(super) containers: Option<Vec<Option<Container<'a>>>>,
    #[serde(borrow)]
    pub(super) storage_uris: Option<Vec<Option<StorageUri<'a>>>>,
    #[serde(borrow)]
    pub(super) service_account_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Option<Strings<'a>>,
    #[serde(borrow)]
    pub(super) worker_spec: Option<Worker<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Worker<'a> {
    #[serde(borrow)]
    pub(super) containers: Option<Vec<Option<Container<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Implementation<'a> {
    #[serde(borrow)]
    pub(super) storage_uri: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) storage: Option<Storage<'a>>,
    #[serde(borrow)]
    pub(super) runtime: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) runtime_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) protocol_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) image: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model_format: Option<Format<'a>>,
    #[serde(borrow)]
    pub(super) resources: Option<Resources<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Storage<'a> {
    #[serde(borrow)]
    pub(super) key: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) path: Option<Text<'a>>,
    pub(super) parameters: Present,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Format<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct StorageUri<'a> {
    #[serde(borrow)]
    pub(super) uri: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Container<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) env: Option<Vec<Option<EnvVar<'a>>>>,
    #[serde(borrow)]
    pub(super) resources: Option<Resources<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EnvVar<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) value: Option<Text<'a>>,
    pub(super) value_from: Present,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Resources<'a> {
    #[serde(borrow)]
    pub(super) limits: Option<Quantities<'a>>,
    #[serde(borrow)]
    pub(super) requests: Option<Quantities<'a>>,
}

/// Resource names to quantities, which are strings or numbers.
#[derive(Default)]
pub(super) struct Quantities<'a>(pub(super) Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Quantities<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QuantitiesVisitor;
        impl<'de> Visitor<'de> for QuantitiesVisitor {
            type Value = Quantities<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of quantities")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Quantities(entries))
            }
        }
        deserializer.deserialize_map(QuantitiesVisitor)
    }
}

#[derive(Deserialize)]
pub(super) struct LlmInferenceService<'a> {
    #[serde(borrow, default)]
    pub(super) metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    pub(super) spec: Option<LlmSpec<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct LlmSpec<'a> {
    #[serde(borrow)]
    pub(super) model: Option<LlmModel<'a>>,
    #[serde(borrow)]
    pub(super) template: Option<PodSpec<'a>>,
    #[serde(borrow)]
    pub(super) worker: Option<PodSpec<'a>>,
    #[serde(borrow)]
    pub(super) prefill: Option<Workload<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct LlmModel<'a> {
    #[serde(borrow)]
    pub(super) uri: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) lora: Option<Lora<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Lora<'a> {
    #[serde(borrow)]
    pub(super) adapters: Option<Vec<Option<StorageUri<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Workload<'a> {
    #[serde(borrow)]
    pub(super) template: Option<PodSpec<'a>>,
    #[serde(borrow)]
    pub(super) worker: Option<PodSpec<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec<'a> {
    #[serde(borrow)]
    pub(super) service_account_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) containers: Option<Vec<Option<Container<'a>>>>,
}

/// The key `deploy` of KServe's configuration.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Deploy<'a> {
    #[serde(borrow)]
    pub(super) default_deployment_mode: Option<Text<'a>>,
}

/// What kubectl's client-side apply remembers of the manifest, as far as it holds a `serviceAccountName` where the API server drops it.
#[derive(Deserialize)]
pub(super) struct LastApplied<'a> {
    #[serde(borrow, default)]
    pub(super) spec: Option<LastAppliedSpec<'a>>,
}

#[derive(Deserialize)]
pub(super) struct LastAppliedSpec<'a> {
    #[serde(borrow, default)]
    pub(super) predictor: Option<Members<'a>>,
}

/// An object's members, each as it stands.
pub(super) struct Members<'a>(pub(super) Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Quantities::deserialize(deserializer).map(|Quantities(members)| Self(members))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Misplaced<'a> {
    #[serde(borrow)]
    pub(super) service_account_name: Option<Text<'a>>,
}
