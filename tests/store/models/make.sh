#!/usr/bin/env bash
# Makes the models of this folder that are missing. Needs Python 3.11; the versions below are the point of each model.
set -euo pipefail
cd "$(dirname "$0")"
make() { # NAME PACKAGES PYTHON: `model`, trained on `X`, and `save`, which saves it
    [ ! -d "$1" ] || return 0
    local venv; venv=$(mktemp -d)
    python3 -m venv "$venv"
    # shellcheck disable=SC2086 # a list of packages
    "$venv/bin/pip" install -q mlflow-skinny==3.3.2 pandas==2.2.3 numpy==1.26.4 $2
    MLFLOW_TRACKING_URI="file:$venv/runs" "$venv/bin/python" - "$1" <<P
import sys, numpy as np
from mlflow.models import infer_signature
X = np.random.RandomState(0).rand(200, 4).astype("float32")
$3
save(model, sys.argv[1], signature=infer_signature(X, model.predict(X)))
P
    rm -rf "$venv"
}
xgboost='import xgboost as xgb, mlflow.xgboost; save = lambda *a, **k: mlflow.xgboost.save_model(*a, model_format="ubj", **k)'
sklearn='from sklearn.linear_model import LogisticRegression; from mlflow.sklearn import save_model as save'
make fraud 'xgboost==3.0.2 scikit-learn==1.6.1' "$xgboost
model = xgb.XGBClassifier(n_estimators=5, max_depth=2).fit(X, (X[:, 0] + X[:, 1] > 1).astype(int))"
make prices 'xgboost==3.2.0 scikit-learn==1.6.1' "$xgboost
model = xgb.XGBRegressor(n_estimators=5, max_depth=2).fit(X, 100 + 10 * X[:, 0])"
make churn 'scikit-learn==1.5.0' "$sklearn
model = LogisticRegression().fit(X, (X[:, 0] + X[:, 1] > 1).astype(int))"
