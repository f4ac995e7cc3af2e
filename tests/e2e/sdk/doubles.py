"""A transformer as KServe's guides write one: it doubles every number of a request, and has the predictor answer."""

from kserve import InferRequest, Model, ModelServer
from kserve.model_server import args


class Doubles(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    async def preprocess(self, payload, headers=None):
        if isinstance(payload, InferRequest):
            for tensor in payload.inputs:
                tensor.data = [2 * value for value in tensor.data]
            return payload
        return {"instances": [[2 * value for value in row] for row in payload["instances"]]}


if __name__ == "__main__":
    ModelServer().start([Doubles(args.model_name)])
