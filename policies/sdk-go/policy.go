// Package policy is what an admission policy for Tidewaiter is written against in Go.
//
// A policy looks at an object that is about to be stored in the cluster and answers with a [Verdict]. It runs as a WebAssembly component: no clock, no network, no
// files, and goroutines on one thread. What it may ask are the functions of the packages cluster, runtimes, storage and log beside this one: the component
// imports only those that it calls, and a WasmPolicy must grant them.
//
//	package main
//
//	import (
//		policy "github.com/tidewaiter/tidewaiter/policies/sdk-go"
//		"github.com/tidewaiter/tidewaiter/policies/sdk-go/cluster"
//	)
//
//	type Settings struct {
//		Team string `json:"team" description:"The team of services that don't say" shown:"true"`
//	}
//
//	func init() {
//		policy.Register(policy.Policy[Settings]{
//			Name: "owner", Version: "0.1.0", Summary: "Every service says whose it is.",
//			Settings: Settings{Team: "nobody"},
//			Review: func(request *policy.Request, settings Settings) *policy.Verdict {
//				if _, said := request.Object.Labels["team"]; said {
//					return policy.Admit()
//				}
//				owner, labelled := cluster.NamespaceLabels()["team"]
//				if !labelled {
//					owner = settings.Team
//				}
//				return policy.Admit().Fill("/metadata/labels/team", owner, "every service says whose it is")
//			},
//		})
//	}
//
//	func main() {}
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Policy is what a policy is, and how it answers. S is the type of its settings: a struct whose fields have `json` tags, and may have these:
//
//	description:"The most replicas"  what the admin reads of it
//	shown:"true"                     users may see its value, as in a denial
//	required:"true"                  an admin has to give it; its value in Settings is no default then
//	minimum:"1" maximum:"10"         of a number; an unsigned one has the minimum 0 without it
//	pattern:"^s3://"                 a regular expression that is found in a text: JSON Schema's, without look-around
//	enum:"strict,lax"                the texts or numbers that it may be, by commas
//
// minimum, maximum, pattern and enum of a list or a map hold for each value in it. Tidewaiter looks at them when it loads the policy, [Policy.CheckSettings]
// by itself doesn't. A tag that doesn't fit its field's type panics when the policy is described.
type Policy[S any] struct {
	// Name is a DNS label.
	Name string
	// Version is the policy's own semantic version.
	Version string
	// Summary is one sentence.
	Summary string
	// Settings are those of an admin who gives none. The JSON Schema that the component carries follows from their type, and shows them as defaults: Tidewaiter
	// refuses settings that don't fit it.
	Settings S
	// Schema is a JSON Schema of the settings, as JSON text, in the place of the one that follows from their type.
	Schema string
	// Objects are kinds that cluster.Get and cluster.List are asked for.
	Objects []ObjectKind
	// Check says what a schema can't: it is called once, when the policy is loaded. The error is a sentence for the admin. May be nil.
	Check func(settings S) error
	// Review answers one request. The same request, settings and answers of the world must give the same verdict. A nil verdict admits.
	Review func(request *Request, settings S) *Verdict
}

// NoSettings are the settings of a policy that has none.
type NoSettings struct{}

// ObjectKind is a kind of objects, such as v1 ResourceQuota.
type ObjectKind struct{ APIVersion, Kind string }

// Description is what a policy says of itself.
type Description struct {
	Name, Version, Summary string
	// Schema is the JSON Schema of its settings, as JSON text.
	Schema  string
	Objects []ObjectKind
}

// Describe says what the policy is.
func (p Policy[S]) Describe() Description {
	schema := p.Schema
	if schema == "" {
		schema = schemaOf(p.Settings)
	}
	return Description{p.Name, p.Version, p.Summary, schema, p.Objects}
}

// CheckSettings says whether settings (JSON text) can be used.
func (p Policy[S]) CheckSettings(text string) error {
	settings, err := p.settings(text)
	if err == nil && p.Check != nil {
		err = p.Check(settings)
	}
	return err
}

// Answer reviews one request with these settings (JSON text).
func (p Policy[S]) Answer(request *Request, text string) (*Verdict, error) {
	settings, err := p.settings(text)
	if err != nil {
		return nil, err
	}
	verdict := p.Review(request, settings)
	if verdict == nil {
		verdict = Admit()
	}
	return verdict, nil
}

func (p Policy[S]) settings(text string) (S, error) {
	settings := p.Settings
	if strings.TrimSpace(text) == "" {
		return settings, nil
	}
	makeRoom(reflect.ValueOf(&settings).Elem(), []byte(text))
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil && !errors.Is(err, io.EOF) {
		return settings, fmt.Errorf("settings of %s: %s", p.Name, strings.TrimPrefix(err.Error(), "json: "))
	}
	return settings, nil
}

// makeRoom takes the default away from each list and map that the text gives, and copies what a pointer leads to: encoding/json would write into them, so that
// what the admin gave was mixed with what the author did. What the text leaves out of a struct keeps its default.
func makeRoom(settings reflect.Value, text []byte) {
	switch settings.Kind() {
	case reflect.Slice, reflect.Map:
		settings.SetZero()
	case reflect.Pointer:
		if !settings.IsNil() {
			own := reflect.New(settings.Type().Elem())
			own.Elem().Set(settings.Elem())
			makeRoom(own.Elem(), text)
			settings.Set(own)
		}
	case reflect.Struct:
		var given map[string]json.RawMessage
		if json.Unmarshal(text, &given) != nil {
			return
		}
		for name, text := range given {
			if field, found := fieldOf(settings, name); found {
				makeRoom(field, text)
			}
		}
	}
}

// fieldOf finds the field that encoding/json decodes a member into; false where there is none, or nobody else may set it.
func fieldOf(settings reflect.Value, member string) (reflect.Value, bool) {
	for at := range settings.NumField() {
		field := settings.Type().Field(at)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		if field.IsExported() && strings.EqualFold(name, member) {
			return settings.Field(at), true
		}
	}
	return reflect.Value{}, false
}
