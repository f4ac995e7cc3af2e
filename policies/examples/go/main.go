// Every service belongs to a team, loads an allowed model, and stays small.
package main

import (
	"fmt"
	"strings"

	policy "github.com/tidewaiter/tidewaiter/policies/sdk-go"
	"github.com/tidewaiter/tidewaiter/policies/sdk-go/cluster"
)

// Settings are what the admin may set.
type Settings struct {
	Prefixes    []string `json:"prefixes" description:"Models come from below one of these; none allows all" shown:"true"`
	MaxReplicas int64    `json:"maxReplicas" description:"The most replicas of one service" shown:"true" minimum:"1"`
}

func init() {
	policy.Register(policy.Policy[Settings]{
		Name:     "house-rules",
		Version:  "0.1.0",
		Summary:  "Every service belongs to a team, loads an allowed model, and stays small.",
		Settings: Settings{MaxReplicas: 10},
		Review:   review,
	})
}

func main() {}

func review(request *policy.Request, settings Settings) *policy.Verdict {
	verdict := policy.Admit()
	team := cluster.NamespaceLabels()["team"]
	if _, labelled := request.Object.Labels["team"]; !labelled {
		if team == "" {
			verdict.Deny("no-team", fmt.Sprintf("%s belongs to no team; label it, or its namespace, with `team`", request.Name), "/metadata/labels/team")
		} else {
			verdict.Fill("/metadata/labels/team", team, "the namespace belongs to this team")
		}
	}
	predictor := request.Object.Spec.Predictor
	if predictor == nil {
		return verdict
	}
	if predictor.Model != nil && !allowed(predictor.Model.StorageURI, settings.Prefixes) {
		message := fmt.Sprintf("%s is not below %s; move the model there", predictor.Model.StorageURI, strings.Join(settings.Prefixes, ", "))
		verdict.Deny("model-not-allowed", message, "/spec/predictor/model/storageUri")
	}
	if int64(predictor.MaxReplicas) > settings.MaxReplicas {
		message := fmt.Sprintf("maxReplicas is %d, and %d is the most; ask for fewer", predictor.MaxReplicas, settings.MaxReplicas)
		verdict.Deny("too-many-replicas", message, "/spec/predictor/maxReplicas")
	}
	if predictor.MinReplicas != nil && *predictor.MinReplicas == 0 {
		verdict.Warn("minReplicas is 0: the first request waits until the model is loaded")
	} else if predictor.MinReplicas == nil {
		verdict.Fill("/spec/predictor/minReplicas", 1, "a model that is to answer needs a replica")
	}
	return verdict
}

func allowed(uri string, prefixes []string) bool {
	if uri == "" || len(prefixes) == 0 {
		return true
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(uri, prefix) {
			return true
		}
	}
	return false
}
