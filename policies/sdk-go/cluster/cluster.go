// Package cluster is the cluster around the object.
package cluster

import (
	"encoding/json"
	"errors"

	raw "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/tidewaiter_policy_cluster"
)

// NamespaceLabels are those of the object's namespace.
func NamespaceLabels() map[string]string {
	labels := map[string]string{}
	for _, label := range raw.NamespaceLabels() {
		labels[label.Key] = label.Value
	}
	return labels
}

// NodeArchitectures are those of the cluster's nodes, as in kubernetes.io/arch, sorted, each once.
func NodeArchitectures() []string { return raw.NodeArchitectures() }

// Get reads an object of a kind that the WasmPolicy declares in spec.objects, from the object's namespace (or cluster-scoped), into a value. False where there is
// none. Never a Secret.
func Get(apiVersion, kind, name string, into any) (bool, error) {
	found := raw.GetObject(apiVersion, kind, name)
	if found.IsErr() {
		return false, errors.New(found.Err())
	}
	if text := found.Ok(); text.IsSome() {
		return true, json.Unmarshal([]byte(text.Some()), into)
	}
	return false, nil
}

// List reads all objects of such a kind, in the order of their names; at most 100, and 1 MiB in all. An error where there are more.
func List[T any](apiVersion, kind string) ([]T, error) {
	found := raw.ListObjects(apiVersion, kind)
	if found.IsErr() {
		return nil, errors.New(found.Err())
	}
	texts := found.Ok()
	objects := make([]T, len(texts))
	for index, text := range texts {
		if err := json.Unmarshal([]byte(text), &objects[index]); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// KServeConfig reads one key of KServe's ConfigMap inferenceservice-config, such as deploy, into a value. False where it isn't known.
func KServeConfig(key string, into any) (bool, error) {
	if text := raw.KserveConfig(key); text.IsSome() {
		return true, json.Unmarshal([]byte(text.Some()), into)
	}
	return false, nil
}
