"""Submits an InferenceService the way tools written on KServe's Python SDK do.

usage: submit.py SHAPE VERB NAMESPACE NAME URI
SHAPE  model: a model spec with format mlflow; zenml: what ZenML's KServe deployer sends (a per-framework field, labels and
       annotations of its own, never a ServiceAccount)
VERB   create, or replace: the whole object anew, without what anybody else wrote into it
"""

import json
import sys

import kserve
from kubernetes import client

shape, verb, namespace, name, uri = sys.argv[1:]
labels, annotations = None, None
if shape == "zenml":
    predictor = kserve.V1beta1PredictorSpec(
        sklearn=kserve.V1beta1SKLearnSpec(storage_uri=uri, resources=client.V1ResourceRequirements(requests={"cpu": "100m"}))
    )
    config = {"model_uri": uri, "model_name": name, "predictor": "sklearn", "replicas": 1}
    labels = {"app": "zenml", "zenml.model_name": name, "zenml.model_type": "sklearn"}
    annotations = {"zenml.service_config": json.dumps(config), "zenml.version": "0.58.2"}
else:
    predictor = kserve.V1beta1PredictorSpec(
        model=kserve.V1beta1ModelSpec(model_format=kserve.V1beta1ModelFormat(name="mlflow"), storage_uri=uri)
    )
service = kserve.V1beta1InferenceService(
    api_version="serving.kserve.io/v1beta1",
    kind="InferenceService",
    metadata=client.V1ObjectMeta(name=name, namespace=namespace, labels=labels, annotations=annotations),
    spec=kserve.V1beta1InferenceServiceSpec(predictor=predictor),
)
sdk = kserve.KServeClient()
if verb == "create":
    sdk.create(service, namespace=namespace)
else:
    sdk.replace(name, service, namespace=namespace)
