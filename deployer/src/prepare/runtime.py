"""Serves a function beside a model with MLServer. Written by `tidewaiter deploy`; model-settings.json names the functions."""

import glob
import importlib
import inspect
import os
import sys

import numpy
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri

try:
    import pandas
    from mlserver.codecs import PandasCodec
except ImportError:
    pandas = None


def function(path):
    module, name = path.rsplit(".", 1)
    found = getattr(importlib.import_module(module), name, None)
    if not callable(found):
        raise AttributeError(f"{module} has no function {name}")
    return found


def load(folder):
    """The model in a folder, by what lies there; the folder's path where nothing is known."""

    def first(*patterns):
        for pattern in patterns:
            for file in sorted(glob.glob(os.path.join(folder, pattern))):
                return file
        return None

    if first("MLmodel"):
        import mlflow

        return mlflow.pyfunc.load_model(folder)
    file = first("*.joblib", "*.pkl", "*.pickle")
    if file:
        import joblib

        return joblib.load(file)
    file = first("*.ubj", "model.json")
    if file:
        import xgboost

        return xgboost.Booster(model_file=file)
    file = first("*.bst", "model.txt")
    if file:
        with open(file, "rb") as opened:
            is_lightgbm = opened.read(5) == b"tree\n"
        if is_lightgbm:
            import lightgbm

            return lightgbm.Booster(model_file=file)
        import xgboost

        return xgboost.Booster(model_file=file)
    return folder


def decoded(request):
    """One input as it is (an array, or texts), several by their names; a table where the request says so."""
    parameters = request.parameters
    if pandas is not None and parameters is not None and parameters.content_type == PandasCodec.ContentType:
        return PandasCodec.decode_request(request)
    values = {}
    for item in request.inputs:
        content = item.parameters.content_type if item.parameters else None
        if content == StringCodec.ContentType or (content is None and item.datatype == "BYTES"):
            values[item.name] = StringCodec.decode_input(item)
        elif content == Base64Codec.ContentType:
            values[item.name] = Base64Codec.decode_input(item)
        else:
            values[item.name] = NumpyCodec.decode_input(item)
    return next(iter(values.values())) if len(values) == 1 else values


def encoded(name, value):
    """One output of what a function returned."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (bytes, bytearray)):
        return Base64Codec.encode_output(name, [bytes(value)])
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
        return StringCodec.encode_output(name, list(value))
    array = numpy.asarray(value)
    if array.dtype.kind in "US":
        return StringCodec.encode_output(name, [str(item) for item in array.ravel()])
    if array.dtype == object:
        raise TypeError(f"{name}: an array of numbers, text, bytes, or a dict of these can be answered, and not {type(value).__name__}")
    return NumpyCodec.encode_output(name, array if array.ndim else array.reshape(1))


def outputs(answer):
    if pandas is not None and isinstance(answer, pandas.DataFrame):
        return PandasCodec.encode_outputs(answer)
    if isinstance(answer, dict):
        return [encoded(str(name), value) for name, value in answer.items()]
    return [encoded("predict", answer)]


async def call(wanted, *arguments):
    answer = wanted(*arguments)
    return await answer if inspect.isawaitable(answer) else answer


class Runtime(MLModel):
    async def load(self):
        folder = await get_model_uri(self.settings)
        if not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        # The user's modules import each other.
        if folder not in sys.path:
            sys.path.insert(0, folder)
        named = dict(self.settings.parameters.extra or {})
        self._predict = function(named["predict"])
        self._pre = function(named["pre"]) if "pre" in named else None
        self._post = function(named["post"]) if "post" in named else None
        self._model = await call(function(named["load"]) if "load" in named else load, folder)
        return True

    async def predict(self, payload):
        data = decoded(payload)
        if self._pre:
            data = await call(self._pre, data)
        answer = await call(self._predict, self._model, data)
        if self._post:
            answer = await call(self._post, answer)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs(answer))
