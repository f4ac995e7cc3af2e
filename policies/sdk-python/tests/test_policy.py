"""What the SDK does outside of a component."""

import json
import unittest
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Literal, Optional
from unittest.mock import patch

from tidewaiter_policy import ObjectKind, Request, admit, at, cluster, deny, model_uris, policy, storage
from tidewaiter_policy.settings import build, schema_of, setting


@dataclass
class Quota:
    gpus: int = 0


@dataclass
class Settings:
    prefixes: List[str] = setting([], "Where models come from", shown=True)
    max_replicas: int = setting(10, minimum=1)
    mode: Literal["strict", "lax"] = "strict"
    owner: Optional[str] = None
    limits: Dict[str, float] = field(default_factory=dict)
    quota: Quota = field(default_factory=Quota)


@dataclass
class Nested:
    quotas: List[Quota] = field(default_factory=list)
    by_name: Optional[Dict[str, Quota]] = None


@dataclass
class Needed:
    team: str


def request(**members) -> Request:
    texts = {"object_text": json.dumps({"metadata": {"name": "fraud"}}), **members}
    return Request("create", "serving.kserve.io/v1beta1", "InferenceService", "team-a", "fraud", **texts)


class SettingsTest(unittest.TestCase):
    def test_a_schema_follows_from_a_dataclass(self):
        properties = schema_of(Settings)["properties"]
        prefixes = {"type": "array", "items": {"type": "string"}, "description": "Where models come from", "x-shown": True, "default": []}
        self.assertEqual(properties["prefixes"], prefixes)
        self.assertEqual(properties["maxReplicas"], {"type": "integer", "minimum": 1, "default": 10})
        self.assertEqual(properties["mode"], {"enum": ["strict", "lax"], "default": "strict"})
        self.assertEqual(properties["owner"], {"type": "string"})
        self.assertEqual(properties["quota"]["properties"]["gpus"], {"type": "integer", "default": 0})
        self.assertEqual(schema_of(Needed)["required"], ["team"])

    def test_what_the_admin_gave_becomes_a_dataclass(self):
        built = build(Settings, {"maxReplicas": 3, "quota": {"gpus": 2}, "prefixes": ["s3://a/"]})
        self.assertEqual(built, Settings(["s3://a/"], 3, quota=Quota(2)))
        self.assertEqual(build(Settings, {}), Settings([]))
        self.assertIsNot(build(Settings, {}).prefixes, build(Settings, {}).prefixes)

    def test_what_is_wrong_is_named(self):
        with self.assertRaisesRegex(ValueError, "maxReplica is no setting; there are prefixes, maxReplicas"):
            build(Settings, {"maxReplica": 3})
        with self.assertRaisesRegex(ValueError, "team is needed"):
            build(Needed, {})


class VerdictTest(unittest.TestCase):
    def test_the_first_denial_counts_and_asking_twice_is_asking_once(self):
        verdict = deny("a", "first").deny("b", "second", "/spec").need_credentials("minio").need_credentials("minio")
        self.assertEqual(verdict.denial, ("a", "first", None))
        self.assertEqual(verdict.credentials, [("minio", "annotation")])

    def test_a_fill_is_json_or_an_error(self):
        self.assertEqual(admit().fill("/a", {"b": [1, None]}, "why").fills, [("/a", '{"b": [1, null]}', "why")])
        for wrong in (float("nan"), object()):
            with self.assertRaises((TypeError, ValueError)):
                admit().fill("/a", wrong, "why")
        with self.assertRaises(ValueError):
            admit().need_credentials("minio", "by-hand")


class RequestTest(unittest.TestCase):
    def test_a_pointer_finds_what_is_there_and_nothing_else(self):
        value = {"a/b": {"~": [1, {"x": None}]}}
        self.assertEqual(at(value, "/a~1b/~0/0"), 1)
        self.assertIsNone(at(value, "/a~1b/~0/1/x", "default"))
        for pointer in ("/a", "/a~1b/~0/2", "/a~1b/~0/-1", "/a~1b/~0/x", "/a~1b/~0/0/y"):
            self.assertEqual(at(value, pointer, "default"), "default")
        self.assertIs(at(value, ""), value)

    def test_models_are_found_in_every_shape_that_kserve_has(self):
        cases = json.loads((Path(__file__).parent / "models.json").read_text())
        self.assertGreater(len(cases), 5)
        for case in cases:
            with self.subTest(case["name"]):
                self.assertEqual([found._asdict() for found in model_uris(case["object"])], case["models"])

    def test_what_is_no_text_names_no_model(self):
        for other in (None, 5, "x", [None, "x", {"name": 5}], {"storageUri": {"a": 1}, "name": []}):
            spec = {"predictor": {"model": other, "sklearn": other, "containers": other, "storageUris": other}, "transformer": other, "canary": other}
            self.assertEqual(model_uris({"spec": spec}), [])
            self.assertEqual(model_uris({"spec": other}), [])
            self.assertEqual(model_uris({"kind": "LLMInferenceService", "spec": {"model": {"uri": other and [other], "lora": {"adapters": other}}}}), [])

    def test_a_policy_answers_with_its_settings(self):
        @policy(name="a", version="1.0.0", summary="A.", settings=Needed, objects=[ObjectKind("v1", "ResourceQuota")])
        def review(asked, settings):
            return admit().warn(f"{asked.at('/metadata/name')} of {settings.team}")

        self.assertEqual(review(request(), review.settings_of('{"team": "fraud"}')).warnings, ["fraud of fraud"])

        @policy(name="b", version="1.0.0", summary="B.")
        def silent(asked):
            return None

        self.assertEqual(silent(request()).warnings, [])
        self.assertIsNone(silent.schema_text())
        old = request(old_object_text='{"spec": {}}', filled_texts=[("/a", "1")])
        self.assertEqual((old.old_object, old.filled[0].value), ({"spec": {}}, 1))

    def test_types_are_looked_into_when_a_policy_is_made_and_not_in_a_review(self):
        @policy(name="c", version="1.0.0", summary="C.", settings=Nested)
        def review(asked, settings):
            return admit().warn(str(settings.quotas[0].gpus))

        with patch("typing.get_type_hints", side_effect=AssertionError), patch("inspect.signature", side_effect=AssertionError):
            settings = review.settings_of('{"quotas": [{"gpus": 2}], "byName": {"a": {"gpus": 3}}}')
            self.assertEqual(settings.by_name, {"a": Quota(3)})
            self.assertEqual(review(request(), settings).warnings, ["2"])


class HostTest(unittest.TestCase):
    def test_outside_of_a_component_a_test_answers(self):
        with self.assertRaisesRegex(RuntimeError, "a test replaces tidewaiter_policy.cluster.namespace_labels"):
            cluster.namespace_labels()
        with patch("tidewaiter_policy.cluster.namespace_labels", return_value={"team": "fraud"}):
            self.assertEqual(cluster.namespace_labels(), {"team": "fraud"})

    def test_errors_of_the_contract_become_exceptions(self):
        class Err(Exception):
            value = None

        class Error_TooLarge:
            value = 7

        error = Err()
        error.value = Error_TooLarge()
        with patch.object(storage, "_raw") as raw:
            raw.read.side_effect = error
            with self.assertRaisesRegex(storage.StorageError, "s3://a/b: too large: 7") as raised:
                storage.read("s3://a/b")
        self.assertEqual(raised.exception.code, "too-large")
        error.value = "v1 Pod isn't declared"
        with patch.object(cluster, "_raw") as raw:
            raw.list_objects.side_effect = error
            with self.assertRaisesRegex(cluster.ClusterError, "isn't declared"):
                cluster.list_objects("v1", "Pod")


if __name__ == "__main__":
    unittest.main()
