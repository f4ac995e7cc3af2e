package policy

import (
	"encoding/json"
	"fmt"
)

// Verdict is a policy's answer, which can be added to: policy.Admit().Fill(…).Warn(…).
type Verdict struct {
	// Denial is nil where the object is admitted.
	Denial   *Denial
	Fills    []Fill
	Warnings []string
	// Credentials are those that the object's namespace is to have.
	Credentials []Credentials
}

// Denial is why an object can't be admitted.
type Denial struct {
	// Code is a word for machines, in kebab case.
	Code string
	// Message is what happened, to which part of the object, and what to do, for the user.
	Message string
	// Path is a JSON Pointer to the part of the object; empty where there is none.
	Path string
}

// Fill is a value (JSON text) for a place that the user left empty.
type Fill struct{ Path, JSON, Reason string }

// Credentials are a backend's, and how they are delivered.
type Credentials struct {
	Backend  string
	Delivery Delivery
}

// Delivery is how credentials reach KServe's storage initializer.
type Delivery uint8

// The ways, in the contract's order.
const (
	// ByAnnotation is a Secret named by the annotation that KServe's configuration names.
	ByAnnotation Delivery = iota
	// ByServiceAccount is a ServiceAccount that lists the Secret.
	ByServiceAccount
	// ByStorageKey is a key in a Secret of KServe's storage-config form.
	ByStorageKey
)

// Admit admits the object and says nothing. Go on with Fill, Warn and the others.
func Admit() *Verdict { return &Verdict{} }

// Deny refuses the object: see [Verdict.Deny].
func Deny(code, message, path string) *Verdict { return Admit().Deny(code, message, path) }

// Fill fills in a value where the user left a place empty. The path is a JSON Pointer to a member of an object (missing parents are made); the reason is for the user, at most
// 90 characters, without the value. A fill over a value of the user is dropped, with a warning. A value that JSON can't hold panics.
func (v *Verdict) Fill(path string, value any, reason string) *Verdict {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("%s can't be filled in: %s", path, err))
	}
	v.Fills = append(v.Fills, Fill{path, string(text), reason})
	return v
}

// Warn adds one line for the user, at most 120 characters.
func (v *Verdict) Warn(line string) *Verdict {
	v.Warnings = append(v.Warnings, line)
	return v
}

// Deny refuses the object. Of several denials the first counts. The path may be empty.
func (v *Verdict) Deny(code, message, path string) *Verdict {
	if v.Denial == nil {
		v.Denial = &Denial{code, message, path}
	}
	return v
}

// NeedCredentials asks for a backend's credentials in the object's namespace. Asking twice is asking once.
func (v *Verdict) NeedCredentials(backend string, delivery Delivery) *Verdict {
	wanted := Credentials{backend, delivery}
	for _, asked := range v.Credentials {
		if asked == wanted {
			return v
		}
	}
	v.Credentials = append(v.Credentials, wanted)
	return v
}
