"""Makes the model files beside this script: `python make.py OUT` with the packages of the folder's name installed."""
import os, sys, shutil, warnings
warnings.filterwarnings("ignore")
import numpy as np
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(7)
X = rng.random((40, 3)); y = 100 + 10 * X[:, 0] + X[:, 1]
import mlflow, sklearn
def save(flavor, model, name, **kw):
    d = os.path.join(out, name); shutil.rmtree(d, ignore_errors=True)
    from mlflow.models import infer_signature
    flavor.save_model(model, d, signature=infer_signature(X, y), **kw)
    print(name, sorted(os.listdir(d)))
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import mlflow.sklearn
pipe = make_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
for fmt in ("cloudpickle", "pickle", "skops"):
    try: save(mlflow.sklearn, pipe, "sklearn-" + fmt, serialization_format=fmt)
    except Exception as e: print("sklearn", fmt, type(e).__name__, str(e)[:100])
import joblib; joblib.dump(pipe, os.path.join(out, "model.joblib"))
joblib.dump(pipe, os.path.join(out, "model-zlib.joblib"), compress=3)
try:
    import xgboost, mlflow.xgboost
    m = xgboost.XGBRegressor(n_estimators=3, max_depth=2).fit(X, y)
    save(mlflow.xgboost, m, "xgboost")
    m.get_booster().save_model(os.path.join(out, "model.ubj")); m.get_booster().save_model(os.path.join(out, "model.json"))
    joblib.dump(m, os.path.join(out, "xgb.joblib"))
    print("xgboost", xgboost.__version__, m.predict(X[:2]))
except Exception as e: print("xgb", type(e).__name__, str(e)[:200])
try:
    import lightgbm, mlflow.lightgbm
    b = lightgbm.train({"verbosity": -1, "min_data_in_leaf": 2, "num_leaves": 3}, lightgbm.Dataset(X, y), num_boost_round=2)
    save(mlflow.lightgbm, b, "lightgbm")
    b.save_model(os.path.join(out, "lightgbm.txt"))
    print("lightgbm", lightgbm.__version__)
except Exception as e: print("lgb", type(e).__name__, str(e)[:200])
print("mlflow", mlflow.__version__, "sklearn", sklearn.__version__)
