"""An explainer as KServe's guides write one: by how much the predictor's answer changes where a value is left out."""

from kserve import InferInput, InferRequest, Model, ModelServer
from kserve.model_server import args


class Explains(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    async def explain(self, payload, headers=None):
        answers = []
        for row in payload["instances"]:
            without = [row[:at] + [0.0] + row[at + 1 :] for at in range(len(row))]
            whole, *parts = await self.ask([row, *without])
            answers.append([whole - part for part in parts])
        return {"explanations": answers}

    async def ask(self, rows):
        data = [value for row in rows for value in row]
        tensor = InferInput("rows", [len(rows), len(rows[0])], "FP64", data)
        answer = await self.predict(InferRequest(self.name, [tensor]))
        return answer.outputs[0].data


if __name__ == "__main__":
    ModelServer().start([Explains(args.model_name)])
