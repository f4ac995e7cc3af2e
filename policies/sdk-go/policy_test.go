package policy

import (
	"encoding/json"
	"errors"
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
