"""Saves a model that not every server loads, with whatever versions of its libraries this Python has.

usage: unloadable.py KIND FOLDER
boosted: scikit-learn's boosted trees, logged by MLflow; their pickle has names that changed between 1.4 and 1.5.
own_class: a class that was defined in the script, saved with joblib: its code stays behind.
"""

import os
import sys

import numpy as np

kind, folder = sys.argv[1:]
X = np.random.RandomState(0).rand(200, 4)
labels = (X[:, 0] + X[:, 1] > 1).astype(int)


class Doubles:
    def predict(self, rows):
        return 2 * np.asarray(rows)


if kind == "boosted":
    import mlflow.sklearn
    from sklearn.ensemble import GradientBoostingClassifier

    mlflow.sklearn.save_model(GradientBoostingClassifier(n_estimators=3).fit(X, labels), folder, input_example=X[:3])
else:
    import joblib

    os.makedirs(folder)
    joblib.dump(Doubles(), os.path.join(folder, "model.joblib"))
