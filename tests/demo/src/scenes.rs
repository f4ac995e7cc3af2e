//! What the demo sends: manifests as users write them.

/// One manifest, and what to watch for.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    pub(crate) manifest: &'static str,
}

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        title: "A model in MinIO, and nothing said but where it is",
        manifest: "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: fraud
  namespace: fraud
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      storageUri: s3://mlflow/fraud/3/models/m-1/artifacts
",
    },
    Scene {
        title: "A model that KServe's default server holds too new a scikit-learn for",
        manifest: "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: churn
  namespace: fraud
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      storageUri: s3://mlflow/public/churn
",
    },
    Scene {
        title: "A model that would load everywhere, and answer nonsense",
        manifest: "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: prices
  namespace: fraud
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      storageUri: s3://mlflow/public/prices
",
    },
    Scene {
        title: "Another team's model",
        manifest: "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: borrowed
  namespace: weather
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      storageUri: s3://mlflow/fraud/3/models/m-1/artifacts
",
    },
    Scene {
        title: "A store that nobody told us of",
        manifest: "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: elsewhere
  namespace: fraud
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
      storageUri: s3://somewhere/else
",
    },
];
