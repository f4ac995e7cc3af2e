// Package runtimes is the serving runtimes of the cluster, and what is known of their images.
package runtimes

import (
	"encoding/json"

	raw "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/tidewaiter_policy_runtimes"
	witTypes "go.bytecodealliance.org/pkg/wit/types"
)

// Runtime is a ServingRuntime or ClusterServingRuntime that supports a model format.
type Runtime = raw.Runtime

// Release is a release of an image.
type Release = raw.Release

// PackageVersion is a package in an image.
type PackageVersion = raw.PackageVersion

// Supporting are the runtimes that support a format (and version, unless it is empty) in the object's namespace, in the order in which KServe tries them. KServe picks the first that
// is not disabled, may be auto-selected, and speaks the service's protocol (v1 where none is set).
func Supporting(format, version string) []Runtime {
	wanted := witTypes.None[string]()
	if version != "" {
		wanted = witTypes.Some(version)
	}
	return raw.Supporting(format, wanted)
}

// Named is the runtime by this name that the object's namespace sees; nil where there is none.
func Named(name string) *Runtime { return pointer(raw.Named(name)) }

// Spec reads the spec of that runtime into a value: containers with their ports and resources, nodeSelector, tolerations. False where it isn't known.
func Spec(name string, into any) (bool, error) {
	if text := raw.Spec(name); text.IsSome() {
		return true, json.Unmarshal([]byte(text.Some()), into)
	}
	return false, nil
}

// ReleaseOf is the release of an image by its tag, with the versions of these packages (names as on PyPI); nil where the catalogue doesn't know it.
func ReleaseOf(repository, tag string, packages ...string) *Release {
	return pointer(raw.ReleaseOf(repository, tag, packages))
}

// Releases are those of an image that the catalogue knows, oldest first.
func Releases(repository string, packages ...string) []Release {
	return raw.Releases(repository, packages)
}

// Lacking are, of these packages, those that images of this repository are known to be without.
func Lacking(repository string, packages ...string) []string {
	return raw.Lacking(repository, packages)
}

func pointer[T any](option witTypes.Option[T]) *T {
	if option.IsNone() {
		return nil
	}
	value := option.Some()
	return &value
}
