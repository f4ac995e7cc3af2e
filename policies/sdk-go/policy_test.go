package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

type quota struct {
	GPUs uint `json:"gpus"`
}

type settings struct {
	Prefixes []string          `json:"prefixes" description:"Where models come from" shown:"true"`
	Replicas int32             `json:"maxReplicas"`
	Owner    *string           `json:"owner"`
	Labels   map[string]string `json:"labels"`
	Quota    quota             `json:"quota"`
	hidden   int
}

func example() Policy[settings] {
	return Policy[settings]{
		Name: "a", Version: "1.0.0", Summary: "A.", Settings: settings{Replicas: 10, Quota: quota{2}},
		Check: func(given settings) error {
			if given.Replicas == 0 {
				return errors.New("maxReplicas is 0, and a service needs one")
			}
			return nil
		},
		Review: func(request *Request, given settings) *Verdict {
			if given.Replicas > 10 {
				return nil
			}
			return Admit().Fill("/spec/x", given.Quota.GPUs, "why")
		},
	}
}

func TestASchemaFollowsFromAStruct(t *testing.T) {
	var schema struct {
		AdditionalProperties bool
		Properties           map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(example().Describe().Schema), &schema); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{
		"prefixes":    {"type": "array", "items": map[string]any{"type": "string"}, "description": "Where models come from", "x-shown": true},
		"maxReplicas": {"type": "integer", "default": 10.0},
		"owner":       {"type": "string"},
		"labels":      {"type": "object", "additionalProperties": map[string]any{"type": "string"}},
		"quota": {"type": "object", "additionalProperties": false, "properties": map[string]any{
			"gpus": map[string]any{"type": "integer", "minimum": 0.0, "default": 2.0},
		}},
	}
	if !reflect.DeepEqual(schema.Properties, want) || schema.AdditionalProperties {
		t.Fatalf("%v", schema.Properties)
	}
}

func TestThePackagesDocShowsTheExampleOfTheREADME(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, rest, _ := strings.Cut(read("README.md"), "```go\n")
	example, _, found := strings.Cut(rest, "```")
	doc, _, _ := strings.Cut(read("policy.go"), "\npackage policy\n")
	var shown strings.Builder
	for line := range strings.Lines(doc + "\n") {
		if code, indented := strings.CutPrefix(line, "//\t"); indented {
			shown.WriteString(code)
		} else if shown.Len() > 0 {
			shown.WriteString(strings.TrimPrefix(line, "//"))
		}
	}
	if !found || shown.String() != example {
		t.Errorf("policy.go shows\n%s\nand README.md\n%s", shown.String(), example)
	}
}

func TestTagsSayWhatASettingMayBe(t *testing.T) {
	type tagged struct {
		Replicas int64               `json:"maxReplicas" minimum:"1" maximum:"100"`
		GPUs     uint8               `json:"gpus" minimum:"2"`
		Share    *float64            `json:"share" maximum:"0.5"`
		Mode     string              `json:"mode" enum:"strict,lax"`
		Sizes    []int               `json:"sizes" enum:"1,2"`
		Prefixes map[string][]string `json:"prefixes" pattern:"^s3://"`
		Team     string              `json:"team" required:"true"`
		Quota    struct {
			Owner string `json:"owner" required:"true"`
		} `json:"quota"`
	}
	var schema map[string]any
	described := Policy[tagged]{Settings: tagged{Replicas: 10, Team: "nobody"}}.Describe().Schema
	if err := json.Unmarshal([]byte(described), &schema); err != nil {
		t.Fatal(err)
	}
	text := map[string]any{"type": "string"}
	want := map[string]any{"type": "object", "additionalProperties": false, "required": []any{"team"}, "properties": map[string]any{
		"maxReplicas": map[string]any{"type": "integer", "minimum": 1.0, "maximum": 100.0, "default": 10.0},
		"gpus":        map[string]any{"type": "integer", "minimum": 2.0},
		"share":       map[string]any{"type": "number", "maximum": 0.5},
		"mode":        map[string]any{"type": "string", "enum": []any{"strict", "lax"}},
		"sizes":       map[string]any{"type": "array", "items": map[string]any{"type": "integer", "enum": []any{1.0, 2.0}}},
		"prefixes": map[string]any{"type": "object", "additionalProperties": map[string]any{
			"type": "array", "items": map[string]any{"type": "string", "pattern": "^s3://"},
		}},
		"team": text,
		"quota": map[string]any{
			"type": "object", "additionalProperties": false, "required": []any{"owner"}, "properties": map[string]any{"owner": text},
		},
	}}
	if !reflect.DeepEqual(schema, want) {
		t.Fatalf("%s", described)
	}
}

func TestATagThatDoesntFitItsSettingPanicsAndNamesIt(t *testing.T) {
	for says, describe := range map[string]func() Description{
		`Most can't have the tag minimum:"one": its type is int`: Policy[struct {
			Most int `minimum:"one"`
		}]{}.Describe,
		`Most can't have the tag maximum:"1.5": its type is []int32`: Policy[struct {
			Most []int32 `maximum:"1.5"`
		}]{}.Describe,
		`Team can't have the tag minimum:"1": its type is string`: Policy[struct {
			Team string `minimum:"1"`
		}]{}.Describe,
		`Most can't have the tag pattern:"1": its type is uint8`: Policy[struct {
			Most uint8 `pattern:"1"`
		}]{}.Describe,
		`On can't have the tag enum:"true": its type is bool`: Policy[struct {
			On bool `enum:"true"`
		}]{}.Describe,
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, says) {
					t.Errorf("%s: %s", says, said)
				}
			}()
			describe()
		}()
	}
}

func TestSettingsThatDontFitAreNamed(t *testing.T) {
	for text, says := range map[string]string{
		`{"maxReplica": 1}`:    "maxReplica",
		`{"maxReplicas": "1"}`: "maxReplicas",
		`{"maxReplicas": 0}`:   "a service needs one",
	} {
		if err := example().CheckSettings(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "{}", "null"} {
		if err := example().CheckSettings(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAPolicyAnswersWithItsDefaults(t *testing.T) {
	verdict, err := example().Answer(&Request{}, `{"maxReplicas": 3}`)
	if err != nil || !reflect.DeepEqual(verdict.Fills, []Fill{{"/spec/x", "2", "why"}}) {
		t.Fatalf("%v %v", verdict, err)
	}
	verdict, err = example().Answer(&Request{}, `{"maxReplicas": 30}`)
	if err != nil || verdict == nil || verdict.Denial != nil {
		t.Fatalf("a nil verdict admits: %v %v", verdict, err)
	}
}

func TestWhatTheAdminGivesTakesThePlaceOfTheDefault(t *testing.T) {
	type rule struct {
		Prefix string `json:"prefix"`
		Max    int    `json:"max"`
	}
	type settings struct {
		Rules  []rule         `json:"rules"`
		Limits map[string]int `json:"limits"`
		Quota  quota          `json:"quota"`
		Pair   struct {
			Names []string `json:"names"`
			Max   int      `json:"max"`
		} `json:"pair"`
		Owner *quota
	}
	defaults := func() settings {
		made := settings{
			Rules:  []rule{{"s3://a/", 5}, {"s3://b/", 6}},
			Limits: map[string]int{"gpu": 1},
			Quota:  quota{2},
			Owner:  &quota{3},
		}
		made.Pair.Names, made.Pair.Max = []string{"a", "b"}, 7
		return made
	}
	of := Policy[settings]{Name: "a", Settings: defaults()}
	given, err := of.settings(`{"rules": [{"prefix": "s3://c/"}], "limits": {"cpu": 2}, "pair": {"names": ["c"]}, "owner": {"gpus": 9}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Rules, want.Limits, want.Pair.Names, want.Owner = []rule{{"s3://c/", 0}}, map[string]int{"cpu": 2}, []string{"c"}, &quota{9}
	if !reflect.DeepEqual(given, want) {
		t.Errorf("%+v instead of %+v", given, want)
	}
	if !reflect.DeepEqual(of.Settings, defaults()) {
		t.Errorf("the defaults are %+v now", of.Settings)
	}
	if left, err := of.settings(`{}`); err != nil || !reflect.DeepEqual(left, defaults()) {
		t.Errorf("%+v, %v", left, err)
	}
}

func TestTheFirstDenialCountsAndAskingTwiceIsAskingOnce(t *testing.T) {
	verdict := Deny("a", "first", "").Deny("b", "second", "/spec").NeedCredentials("minio", ByAnnotation).NeedCredentials("minio", ByAnnotation)
	if verdict.Denial.Code != "a" || len(verdict.Credentials) != 1 {
		t.Fatalf("%v", verdict)
	}
}

func TestAPointerFindsWhatIsThereAndNothingElse(t *testing.T) {
	request := &Request{JSON: `{"a/b": {"~": [1, "x"]}}`}
	if got := request.At("/a~1b/~0/1"); got != "x" {
		t.Error(got)
	}
	for _, pointer := range []string{"/a", "/a~1b/~0/2", "/a~1b/~0/-1", "/a~1b/~0/x", "/a~1b/~0/0/y"} {
		if got := request.At(pointer); got != nil {
			t.Errorf("%s: %v", pointer, got)
		}
	}
}

func TestModelsAreFoundInEveryShapeThatKServeHas(t *testing.T) {
	text, err := os.ReadFile("testdata/models.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name   string
		Object json.RawMessage
		Models []ModelURI
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 5 {
		t.Fatal(len(cases), err)
	}
	for _, one := range cases {
		found := (&Request{JSON: string(one.Object)}).ModelURIs()
		if len(found)+len(one.Models) > 0 && !reflect.DeepEqual(found, one.Models) {
			t.Errorf("%s: %v", one.Name, found)
		}
	}
}

func TestWhatIsNoTextNamesNoModel(t *testing.T) {
	for _, other := range []string{"null", "5", `"x"`, `[null, "x", {"name": 5}]`, `{"storageUri": {"a": 1}, "name": []}`, "[", "{"} {
		predictor := strings.ReplaceAll(`{"model": ?, "sklearn": ?, "containers": ?, "storageUris": ?}`, "?", other)
		for _, object := range []string{
			`{"spec": {"predictor": ` + predictor + `, "transformer": ` + other + `, "canary": ` + other + `}}`,
			`{"spec": ` + other + `}`,
			`{"kind": "LLMInferenceService", "spec": {"model": {"uri": [` + other + `], "lora": {"adapters": ` + other + `}}}}`,
		} {
			if found := (&Request{JSON: object}).ModelURIs(); found != nil {
				t.Errorf("%s: %v", object, found)
			}
		}
	}
}

const service = `{
	"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "unknown": [{"name": "x]}\"\\"}, null, 1.5e3],
	"metadata": {"name": "churn", "generateName": "c-", "namespace": "team-a",
		"labels": {"team": "a\"b\\", "\u00fc": "\ud83d\ude00\n"}, "annotations": {"": "", "a": "[{"}},
	"spec": {
		"predictor": {
			"minReplicas": 0, "maxReplicas": -3, "scaleTarget": 1, "scaleMetric": "cpu", "containerConcurrency": 9007199254740993, "timeout": 5,
			"canaryTrafficPercent": 10, "serviceAccountName": "sa", "nodeSelector": {"arch": "arm64"}, "labels": {}, "annotations": {"x": "y"},
			"containers": [{"name": "c", "image": "i", "args": ["a", "", "\t"], "env": [{"name": "A", "value": "b", "valueFrom": {"a": [1]}}, {}]}],
			"model": {
				"name": "m", "modelFormat": {"name": "sklearn", "version": "1"}, "storageUri": "s3://b/m", "runtime": "r", "runtimeVersion": "1", "protocolVersion": "v2",
				"storage": {"key": "k", "path": "p", "schemaPath": "s", "parameters": {"a": "b"}}, "env": [],
				 "ports": [{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}],
				"resources": {"requests": {"cpu": 1, "memory": "2Gi", "x": 0.5}, "limits": {"a": [true, false, null, {}, []]}}
			}
		},
		"transformer": {"containers": []}, "explainer": null
	}
}`

func TestAnObjectIsReadAsEncodingJSONReadsIt(t *testing.T) {
	var want InferenceService
	if err := json.Unmarshal([]byte(service), &want); err != nil {
		t.Fatal(err)
	}
	if got := serviceOf(service); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%+v", got, want)
	}
	var all any
	_ = json.Unmarshal([]byte(service), &all)
	if got := (&Request{JSON: service}).At(""); !reflect.DeepEqual(got, all) {
		t.Errorf("%v\n%v", got, all)
	}
}

func TestAFieldOfAnotherTypeIsAsIfItWerentThere(t *testing.T) {
	read := serviceOf(`{"metadata": {"name": 5, "Labels": {"team": "x"}, "labels": {"team": 5, "app": "x"}, "annotations": []},
		"spec": {"transformer": "none", "predictor": {"minReplicas": "1", "maxReplicas": 4294967296, "timeout": 1.5, "containers": {},
			"model": {"args": ["a", {"b": "c"}, "d"], "storageUri": "s3://b/m"}}}}`)
	var want InferenceService
	want.Labels = map[string]string{"app": "x"}
	want.Spec.Predictor = &Predictor{Model: &Model{StorageURI: "s3://b/m"}}
	want.Spec.Predictor.Model.Args = []string{"a", "", "d"}
	if !reflect.DeepEqual(read, want) {
		t.Errorf("%+v", read)
	}
}

func TestWhatIsNoJSONIsReadToItsEndAndNoFurther(t *testing.T) {
	texts := []string{"{,}", "[:]", "{a}", `{"a":}`, `{"a":,}`, `{"a"`, "]", "}}", `{"spec":]`, `{"spec":{"predictor":{"model":{"args":[[,:]}`}
	for end := range service {
		texts = append(texts, service[:end], service[:end]+service[end+1:])
	}
	for _, text := range texts {
		serviceOf(text)
		request := &Request{JSON: text}
		request.At("/spec/predictor/model/args/0")
		request.At("")
	}
	deep := strings.Repeat("[", 1<<20)
	serviceOf(`{"spec": {"predictor": {"model": {"resources": {"limits": {"cpu": ` + deep)
	(&Request{JSON: deep}).At("")
}
