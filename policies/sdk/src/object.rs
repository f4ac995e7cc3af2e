//! The object under review: the part of an InferenceService that policies look at, typed; [`View::at`] finds all the rest.
//!
//! It is what somebody wrote, so anything may be missing, and what is of another kind than KServe has there counts as missing: a policy never fails for it.
//! Fields: KServe's API reference, `serving.kserve.io/v1beta1`.

use std::borrow::Cow;

use tidewaiter_core::document::Document;

use crate::{Request, Value};

impl Request {
    /// The object, to be looked into. Where its members are is found now, and a value is read when it is asked for.
    pub fn view(&self) -> View {
        View::of(&self.object)
    }

    /// What stands at a JSON Pointer (RFC 6901) of the object; none where nothing does, or `null`. Whoever looks at several places takes a
    /// [`view`](Self::view) once.
    pub fn at(&self, pointer: &str) -> Option<Value> {
        self.view().at(pointer)
    }
}

/// An object, to be looked into.
#[derive(Debug, Clone)]
pub struct View(Option<Document>);

impl View {
    /// Of an object's JSON text, such as a request's `old_object`. In what is none nothing is found.
    pub fn of(text: &str) -> Self {
        Self(Document::new(text).ok())
    }

    /// What stands at a JSON Pointer (RFC 6901); none where nothing does, or `null`.
    pub fn at(&self, pointer: &str) -> Option<Value> {
        self.below(&[], pointer)
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        self.text(&["metadata", "labels", name])
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<Cow<'_, str>> {
        self.text(&["metadata", "annotations", name])
    }

    /// `spec.predictor`
    pub fn predictor(&self) -> Option<Component<'_>> {
        self.component("predictor")
    }

    /// `spec.transformer`
    pub fn transformer(&self) -> Option<Component<'_>> {
        self.component("transformer")
    }

    /// `spec.explainer`
    pub fn explainer(&self) -> Option<Component<'_>> {
        self.component("explainer")
    }

    fn component(&self, name: &'static str) -> Option<Component<'_>> {
        let place = ["spec", name];
        self.is_map(&place).then_some(Component { view: self, place })
    }

    fn raw(&self, place: &[&str]) -> Option<&str> {
        self.0.as_ref()?.get_in(place)
    }

    fn is_map(&self, place: &[&str]) -> bool {
        self.raw(place).is_some_and(|raw| raw.starts_with('{'))
    }

    fn text(&self, place: &[&str]) -> Option<Cow<'_, str>> {
        let raw = self.raw(place)?;
        let text = raw.strip_prefix('"')?.strip_suffix('"')?;
        if text.contains('\\') {
            return serde_json::from_str(raw).map(Cow::Owned).ok();
        }
        Some(Cow::Borrowed(text))
    }

    fn number(&self, place: &[&str]) -> Option<i64> {
        self.raw(place)?.parse().ok()
    }

    fn below(&self, place: &[&str], pointer: &str) -> Option<Value> {
        let mut segments: Vec<Cow<'_, str>> = place.iter().map(|segment| Cow::Borrowed(*segment)).collect();
        if !pointer.is_empty() {
            let rest = pointer.strip_prefix('/')?.split('/');
            segments.extend(rest.map(unescaped));
        }
        serde_json::from_str(self.0.as_ref()?.get_in(&segments)?).ok()
    }
}

/// A segment of a JSON Pointer.
fn unescaped(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') {
        return Cow::Owned(segment.replace("~1", "/").replace("~0", "~"));
    }
    Cow::Borrowed(segment)
}

/// Predictor, transformer or explainer.
#[derive(Debug, Clone, Copy)]
pub struct Component<'v> {
    view: &'v View,
    place: [&'static str; 2],
}

/// `model`: a model for a serving runtime.
#[derive(Debug, Clone, Copy)]
pub struct Model<'v> {
    view: &'v View,
    place: [&'static str; 3],
}

/// Fields, each with how it is read and what it is called in the object.
macro_rules! fields {
    ($part:ident: $($(#[$doc:meta])* $name:ident $read:ident $kind:ty: $($field:literal)+;)*) => {
        impl<'v> $part<'v> {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<$kind> {
                    self.view.$read(&[&self.place[..], &[$($field),+]].concat())
                }
            )*

            /// What stands at a JSON Pointer below it, such as `/resources/limits`; none where nothing does, or `null`.
            pub fn at(&self, pointer: &str) -> Option<Value> {
                self.view.below(&self.place, pointer)
            }
        }
    };
}

fields! { Component:
    /// The fewest Pods.
    min_replicas number i64: "minReplicas";
    /// The most Pods.
    max_replicas number i64: "maxReplicas";
    /// How much of `scaleMetric` one Pod is to have.
    scale_target number i64: "scaleTarget";
    /// What is scaled by.
    scale_metric text Cow<'v, str>: "scaleMetric";
    /// The requests that a container has at once.
    container_concurrency number i64: "containerConcurrency";
    /// The seconds that a request may take.
    timeout number i64: "timeout";
    /// The newest revision's share of the requests.
    canary_traffic_percent number i64: "canaryTrafficPercent";
    /// The Pods' ServiceAccount.
    service_account_name text Cow<'v, str>: "serviceAccountName";
}

impl<'v> Component<'v> {
    /// Its model; none where its containers are the user's own.
    pub fn model(&self) -> Option<Model<'v>> {
        let [spec, name] = self.place;
        let place = [spec, name, "model"];
        self.view.is_map(&place).then_some(Model { view: self.view, place })
    }
}

fields! { Model:
    /// What the model was saved as, such as `mlflow`.
    format text Cow<'v, str>: "modelFormat" "name";
    /// That format's version.
    format_version text Cow<'v, str>: "modelFormat" "version";
    /// Where the model lies.
    storage_uri text Cow<'v, str>: "storageUri";
    /// The key in the storage Secret that says where the model lies.
    storage_key text Cow<'v, str>: "storage" "key";
    /// The path below that.
    storage_path text Cow<'v, str>: "storage" "path";
    /// The serving runtime.
    runtime text Cow<'v, str>: "runtime";
    /// The tag of the runtime's image.
    runtime_version text Cow<'v, str>: "runtimeVersion";
    /// `v1`, `v2`, `grpc-v1`, `grpc-v2`
    protocol_version text Cow<'v, str>: "protocolVersion";
    /// In the place of the runtime's image.
    image text Cow<'v, str>: "image";
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::create;

    #[test]
    fn what_policies_look_at_is_there_by_its_name() {
        let request = create(&json!({
            "metadata": {"name": "fraud", "labels": {"team": "a \"b\""}, "annotations": {"x/y": "z"}},
            "spec": {
                "predictor": {
                    "minReplicas": 1, "maxReplicas": 3, "serviceAccountName": "sa", "nodeSelector": {"kubernetes.io/arch": "arm64"},
                    "model": {"modelFormat": {"name": "sklearn", "version": "1"}, "storageUri": "s3://mlflow/1", "runtimeVersion": "1.6.1",
                        "storage": {"key": "k"}, "resources": {"limits": {"cpu": 1, "memory": "2Gi"}}},
                },
                "transformer": {"containers": [{"name": "a", "image": "b"}]},
            },
        }));
        let view = request.view();
        assert_eq!(view.label("team").as_deref(), Some("a \"b\""));
        assert_eq!(
            (view.label("owner"), view.annotation("x/y").as_deref()),
            (None, Some("z"))
        );
        let predictor = view.predictor().unwrap();
        assert_eq!((predictor.min_replicas(), predictor.max_replicas()), (Some(1), Some(3)));
        assert_eq!(predictor.service_account_name().as_deref(), Some("sa"));
        assert_eq!(predictor.at("/nodeSelector/kubernetes.io~1arch"), Some(json!("arm64")));
        let model = predictor.model().unwrap();
        assert_eq!(
            (model.format().as_deref(), model.format_version().as_deref()),
            (Some("sklearn"), Some("1"))
        );
        assert!(matches!(model.storage_uri(), Some(Cow::Borrowed("s3://mlflow/1"))));
        assert_eq!(
            (model.runtime(), model.runtime_version().as_deref()),
            (None, Some("1.6.1"))
        );
        assert_eq!(
            (model.storage_key().as_deref(), model.storage_path()),
            (Some("k"), None)
        );
        assert_eq!(model.at("/resources/limits"), Some(json!({"cpu": 1, "memory": "2Gi"})));
        assert_eq!(view.transformer().unwrap().at("/containers/0/image"), Some(json!("b")));
        assert!(view.transformer().unwrap().model().is_none() && view.explainer().is_none());
    }

    #[test]
    fn what_is_of_another_kind_counts_as_missing_and_hides_nothing_else() {
        let others = [
            json!(null),
            json!(true),
            json!(7),
            json!(1.5),
            json!("x"),
            json!([1, {"a": 1}]),
            json!({"a": {"b": 1}}),
        ];
        for other in &others {
            let request = create(&json!({
                "metadata": {"annotations": other, "labels": {"odd": other, "team": "a"}},
                "spec": {
                    "explainer": other,
                    "predictor": {"maxReplicas": other, "minReplicas": 2, "model": {"modelFormat": other, "runtime": other, "storageUri": "s3://a"}},
                },
            }));
            let view = request.view();
            assert_eq!(
                (view.label("team").as_deref(), view.annotation("a")),
                (Some("a"), None),
                "{other}"
            );
            assert_eq!(view.label("odd").as_deref(), other.as_str(), "{other}");
            let predictor = view.predictor().unwrap();
            assert_eq!(
                (predictor.min_replicas(), predictor.max_replicas()),
                (Some(2), other.as_i64()),
                "{other}"
            );
            let model = predictor.model().unwrap();
            assert_eq!(
                (model.storage_uri().as_deref(), model.format()),
                (Some("s3://a"), None),
                "{other}"
            );
            assert_eq!(model.runtime().as_deref(), other.as_str(), "{other}");
            // And where it is the object itself, or all of its spec.
            assert!(create(other).view().predictor().is_none());
            assert!(create(&json!({"spec": other})).view().predictor().is_none());
        }
        assert_eq!(View::of("no JSON").label("team"), None);
    }

    #[test]
    fn anything_is_found_by_its_pointer() {
        let object = json!({"a": {"b/c": {"~": [1, {"x": "y"}, null]}, "n": null}, "": 2});
        let request = create(&object);
        for (pointer, found) in [
            ("", object),
            ("/", json!(2)),
            ("/a/b~1c/~0/1/x", json!("y")),
            ("/a/b~1c/~0", json!([1, {"x": "y"}, null])),
        ] {
            assert_eq!(request.at(pointer), Some(found), "{pointer}");
        }
        for none in [
            "a",
            "/b",
            "/a/n",
            "/a/n/x",
            "/a/b~1c/~0/2",
            "/a/b~1c/~0/3",
            "/a/b~1c/~0/x",
            "/a/b~1c/~0/0/x",
        ] {
            assert_eq!(request.at(none), None, "{none}");
        }
    }
}
