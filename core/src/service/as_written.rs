//! The components of an InferenceService, read as a type of the caller's: for what the views here don't show.

use serde::Deserialize;

use super::Role;

/// Each component as a `T`.
#[derive(Debug, Clone, Deserialize)]
pub struct AsWritten<T> {
    spec: Option<Spec<T>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Spec<T> {
    predictor: Option<T>,
    transformer: Option<T>,
    explainer: Option<T>,
    canary: Option<Vec<Option<Canary<T>>>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Canary<T> {
    predictor: Option<T>,
}

impl<'a, T: Deserialize<'a>> AsWritten<T> {
    /// Reads an InferenceService's JSON text. None where a component isn't of that type.
    pub fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

impl<T> AsWritten<T> {
    /// The component with this role, where there is one.
    pub fn get(&self, role: Role) -> Option<&T> {
        let spec = self.spec.as_ref()?;
        match role {
            Role::Predictor => spec.predictor.as_ref(),
            Role::Transformer => spec.transformer.as_ref(),
            Role::Explainer => spec.explainer.as_ref(),
            Role::Canary(index) => spec.canary.as_ref()?.get(index)?.as_ref()?.predictor.as_ref(),
            Role::Workload | Role::Prefill => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Replicas {
        min_replicas: Option<u32>,
    }

    #[test]
    fn each_component_is_found_by_its_role() {
        let json = r#"{"spec": {"predictor": {"minReplicas": 1, "other": []}, "transformer": {}, "canary": [null, {"predictor": {"minReplicas": 2}}]}}"#;
        let written = AsWritten::<Replicas>::parse(json).unwrap();
        let replicas = |role| written.get(role).map(|replicas| replicas.min_replicas);
        assert_eq!(replicas(Role::Predictor), Some(Some(1)));
        assert_eq!(replicas(Role::Transformer), Some(None));
        assert_eq!(replicas(Role::Explainer), None);
        assert_eq!(replicas(Role::Canary(0)), None);
        assert_eq!(replicas(Role::Canary(1)), Some(Some(2)));
        assert!(AsWritten::<Replicas>::parse(r#"{"spec": {"predictor": {"minReplicas": "x"}}}"#).is_none());
        assert!(
            AsWritten::<Replicas>::parse("{}")
                .unwrap()
                .get(Role::Predictor)
                .is_none()
        );
    }
}
