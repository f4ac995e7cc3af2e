"""An explainer as KServe's guides write one: by how much the predictor's answer changes where a value is left out."""

from kserve import Model, ModelServer
from kserve.model_server import args
from kserve.predictor_config import PredictorConfig


class Explains(Model):
    def __init__(self, name):
        super().__init__(name, predictor_config=PredictorConfig(predictor_host=args.predictor_host))
        self.ready = True

    async def explain(self, payload, headers=None):
        answers = []
        for row in payload["instances"]:
            without = [row[:at] + [0] + row[at + 1 :] for at in range(len(row))]
            whole, *parts = (await self.predict({"instances": [row, *without]}))["predictions"]
            answers.append([whole - part for part in parts])
        return {"explanations": answers}


if __name__ == "__main__":
    ModelServer().start([Explains(args.model_name)])
