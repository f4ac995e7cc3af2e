"""What a data scientist runs before anything is deployed: a search by Ray Tune and Optuna for the best XGBoost, its best model logged to MLflow.

usage: fraud.py OUT, in a folder of its own
MLFLOW_TRACKING_URI, MLFLOW_S3_ENDPOINT_URL and AWS_* say where. Registers `fraud` (alias `champion`) and, for a pipeline with a step of
imbalanced-learn's in it, `fraud-pipeline`. OUT gets JSON: rows, two of them fraud, and what the model itself answers.
"""

import json
import os
import sys
from importlib.metadata import version

import mlflow
import numpy as np
import ray
import xgboost
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import Pipeline
from mlflow import MlflowClient
from mlflow.models import infer_signature
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

random = np.random.RandomState(7)
amounts = random.rand(600, 4)
is_fraud = (amounts[:, 0] * amounts[:, 1] > 0.8).astype(int)
seen, held_back, told, asked = train_test_split(amounts, is_fraud, test_size=0.3, stratify=is_fraud, random_state=7)
# Few transactions are fraud: each kind is as frequent for the search.
balanced, labels = RandomOverSampler(random_state=7).fit_resample(seen, told)


def attempt(config):
    model = xgboost.XGBClassifier(**config).fit(balanced, labels)
    tune.report({"f1": float(f1_score(asked, model.predict(held_back)))})


ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
found = tune.Tuner(
    attempt,
    run_config=tune.RunConfig(storage_path=os.path.abspath("search"), verbose=0),
    param_space={"n_estimators": tune.randint(5, 30), "max_depth": tune.randint(2, 5), "learning_rate": tune.loguniform(0.05, 0.5)},
    tune_config=tune.TuneConfig(search_alg=OptunaSearch(seed=7), metric="f1", mode="max", num_samples=4, max_concurrent_trials=2),
).fit()
best = found.get_best_result()
ray.shutdown()

model = xgboost.XGBClassifier(**best.config).fit(balanced, labels)
rows = np.concatenate([held_back[asked == 1][:2], held_back[asked == 0][:2]])
answers = model.predict(rows)
signature = infer_signature(held_back, model.predict(held_back))

mlflow.set_experiment("fraud")
with mlflow.start_run() as run:
    mlflow.log_params(best.config)
    mlflow.log_metric("f1", best.metrics["f1"])
    logged = mlflow.xgboost.log_model(model, "model", signature=signature, input_example=rows, registered_model_name="fraud")
    pipeline = Pipeline([("balance", RandomOverSampler(random_state=7)), ("model", xgboost.XGBClassifier(**best.config))])
    mlflow.sklearn.log_model(
        pipeline.fit(seen, told),
        "pipeline",
        signature=signature,
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "scikit-learn", "xgboost", "imbalanced-learn")],
        registered_model_name="fraud-pipeline",
    )
MlflowClient().set_registered_model_alias("fraud", "champion", logged.registered_model_version)

with open(sys.argv[1], "w") as out:
    json.dump({"run": run.info.run_id, "version": logged.registered_model_version, "rows": rows.tolist(), "answers": answers.tolist()}, out)
