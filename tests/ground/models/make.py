"""Makes a small model as data scientists save them, with a question and the model's own answers.

usage: make.py KIND FOLDER
FOLDER gets `model/` (what is uploaded) and `question.json`: an Open Inference Protocol request and what the model itself answers.
"""

import json
import os
import sys

import numpy as np

kind, folder = sys.argv[1:]
model = os.path.join(folder, "model")
X = np.random.RandomState(0).rand(200, 4).astype("float32")
rows = X[:3]
labels = (X[:, 0] + X[:, 1] > 1).astype(int)


def fraud():
    """A probability, logged by MLflow: `model.xgb` or `model.ubj` beside an MLmodel."""
    import mlflow.xgboost
    import xgboost

    made = xgboost.XGBRegressor(objective="binary:logistic", n_estimators=5, max_depth=2).fit(X, labels)
    mlflow.xgboost.save_model(made, model, input_example=rows)
    return made.predict(rows)


def prices():
    """A regressor whose intercept is about 105, logged by MLflow."""
    import mlflow.xgboost
    import xgboost

    made = xgboost.XGBRegressor(n_estimators=5, max_depth=2).fit(X, 100 + 10 * X[:, 0])
    mlflow.xgboost.save_model(made, model, input_example=rows)
    return made.predict(rows)


def churn():
    """scikit-learn, logged by MLflow."""
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    made = LinearRegression().fit(X, labels)
    mlflow.sklearn.save_model(made, model, input_example=rows)
    return made.predict(rows)


def one_column():
    """A table of one column, logged by MLflow: the answer to 1, 2 and 3."""
    import mlflow.sklearn
    import pandas
    from sklearn.linear_model import LinearRegression

    global rows
    ages = pandas.DataFrame({"age": np.arange(10.0)})
    made = LinearRegression().fit(ages, 2 * ages.age + 1)
    rows = np.array([[1.0], [2.0], [3.0]], dtype="float32")
    mlflow.sklearn.save_model(made, model, input_example=ages[:2])
    return made.predict(pandas.DataFrame({"age": [1.0, 2.0, 3.0]}))


def plain_sklearn():
    """scikit-learn, saved with joblib: no MLmodel."""
    import joblib
    from sklearn.linear_model import LinearRegression

    made = LinearRegression().fit(X, labels)
    os.makedirs(model)
    joblib.dump(made, os.path.join(model, "model.joblib"))
    return made.predict(rows)


def plain_xgboost():
    """XGBoost's own JSON: no MLmodel."""
    import xgboost

    made = xgboost.XGBRegressor(n_estimators=5, max_depth=2).fit(X, 100 + 10 * X[:, 0])
    os.makedirs(model)
    made.save_model(os.path.join(model, "model.json"))
    return made.predict(rows)


answers = {f.__name__: f for f in (fraud, prices, churn, one_column, plain_sklearn, plain_xgboost)}[kind]()
request = {
    "parameters": {"content_type": "np"},
    "inputs": [{"name": "input-0", "shape": list(rows.shape), "datatype": "FP32", "data": [float(x) for x in rows.ravel()]}],
}
with open(os.path.join(folder, "question.json"), "w") as file:
    json.dump({"request": request, "answers": [float(a) for a in answers]}, file)
