//! Packages that a model needs and its server's image is known to be without: the server would start, and fail to load the model.

use std::collections::BTreeSet;

use tidewaiter_core::catalogue::Catalogue;
use tidewaiter_core::runtimes::ServingRuntime;

use super::error::WishError;
use super::wishes::Wishes;
use crate::model::Model;

/// What MLflow lists because it was imported where the model was saved, and no model is loaded with.
const TOOLS: [&str; 5] = ["pip", "pytest", "python", "setuptools", "wheel"];

/// # Errors
/// [`WishError::Contradiction`] with the packages that are missing, unless they are wished to be.
pub(super) fn check(wishes: &Wishes, model: &Model, runtime: Option<&ServingRuntime>) -> Result<(), WishError> {
    let Some((runtime, image)) = runtime.and_then(|runtime| Some((runtime, runtime.image.as_ref()?))) else {
        return Ok(());
    };
    if model.has_environment {
        return Ok(());
    }
    let catalogue = Catalogue::built_in();
    let allowed = |name: &str| TOOLS.contains(&name) || wishes.allow_missing.iter().any(|allowed| allowed == name);
    // Also those that any version of would do: there is none of them.
    let names: BTreeSet<&str> = model.versions.keys().chain(&model.lists).map(String::as_str).collect();
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !allowed(name) && catalogue.lacks(&image.repository, name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let flags: Vec<_> = missing.iter().map(|name| format!("--allow-missing {name}")).collect();
    Err(WishError::contradiction(
        format!(
            "the model needs {}, and the image {} of {} is without",
            missing.join(", "),
            image.repository,
            runtime.name
        ),
        format!(
            "pack the model's environment beside it (conda-pack, as environment.tar.gz), bring an image that has it all (--image or --runtime), \
             or, where the model doesn't use what it lists, {}",
            flags.join(" ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::model::Framework;

    fn model(packages: &[&str]) -> Model {
        let versions = packages.iter().map(|name| ((*name).to_owned(), "1.0".to_owned()));
        Model {
            framework: Framework::Mlflow,
            versions: versions.collect::<BTreeMap<_, _>>(),
            lists: Vec::new(),
            signature: None,
            input_example: None,
            has_environment: false,
            bytes: 1,
            files: 1,
        }
    }

    fn runtime(image: &str) -> ServingRuntime {
        ServingRuntime::from_json(&json!({
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ClusterServingRuntime",
            "metadata": {"name": "kserve-mlserver"},
            "spec": {"containers": [{"name": "kserve-container", "image": image}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_package_that_the_image_is_without_is_named() {
        let mlserver = runtime("docker.io/seldonio/mlserver:1.7.1");
        let needs = model(&["imbalanced-learn", "mlflow", "pytest", "python", "scikit-learn"]);
        let wishes = Wishes::default();
        let error = check(&wishes, &needs, Some(&mlserver)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the model needs imbalanced-learn, and the image docker.io/seldonio/mlserver of kserve-mlserver is without"
        );
        assert!(
            error.next().contains("--allow-missing imbalanced-learn"),
            "{}",
            error.next()
        );

        let listed = Model {
            lists: vec!["imbalanced-learn".to_owned(), "scikit-learn".to_owned()],
            ..model(&["scikit-learn"])
        };
        assert_eq!(
            check(&wishes, &listed, Some(&mlserver)).unwrap_err().to_string(),
            error.to_string()
        );

        let anyway = Wishes {
            allow_missing: vec!["imbalanced-learn".to_owned()],
            ..Wishes::default()
        };
        check(&anyway, &needs, Some(&mlserver)).unwrap();
        let packed = Model {
            has_environment: true,
            ..needs.clone()
        };
        check(&wishes, &packed, Some(&mlserver)).unwrap();
        // Nobody has listed what is in it.
        check(&wishes, &needs, Some(&runtime("registry.example/own:1"))).unwrap();
        check(&wishes, &model(&["cloudpickle", "xgboost"]), Some(&mlserver)).unwrap();
    }
}
