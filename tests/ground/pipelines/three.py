"""Logs a small model to MLflow 3, and registers it.

usage: three.py OUT, in a folder of its own
MLFLOW_TRACKING_URI, MLFLOW_S3_ENDPOINT_URL and AWS_* say where. Registers `three`. OUT gets JSON: the run, the model's own identity, rows, and what it answers.
"""

import json
import sys

import mlflow
import numpy as np
import xgboost
from mlflow.models import infer_signature

rows = np.random.RandomState(7).rand(200, 4)
model = xgboost.XGBClassifier(n_estimators=5, max_depth=2).fit(rows, (rows[:, 0] * rows[:, 1] > 0.3).astype(int))
asked = rows[:4]
answers = model.predict(asked)

mlflow.set_experiment("three")
with mlflow.start_run() as run:
    signature = infer_signature(rows, model.predict(rows))
    logged = mlflow.xgboost.log_model(model, name="model", signature=signature, input_example=asked, registered_model_name="three")

with open(sys.argv[1], "w") as out:
    json.dump({"run": run.info.run_id, "model": logged.model_id, "rows": asked.tolist(), "answers": answers.tolist()}, out)
