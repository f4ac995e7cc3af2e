package policy

import (
	"encoding/json"
	"strings"
)

// Request is one object to review.
type Request struct {
	// Update is true where the object is there already; else it is to be created. Deletions are never reviewed.
	Update bool
	// APIVersion is such as serving.kserve.io/v1beta1.
	APIVersion string
	// Kind is such as InferenceService.
	Kind      string
	Namespace string
	// Name is empty where the API server is still to generate it.
	Name string
	// Object is what its user wrote, and what policies before this one filled in during this review; without what Tidewaiter filled in at an earlier admission. A
	// field whose JSON has another type than KServe's is as if it weren't there: the API server refuses such an object afterwards.
	Object InferenceService
	// JSON is all of it.
	JSON string
	// OldJSON is, on an update, the object as it is stored, with all that Tidewaiter filled in.
	OldJSON string
	// Filled is what Tidewaiter filled in at an earlier admission and nobody changed since. To keep an entry, fill it again.
	Filled []Entry
	// Withheld are paths that Tidewaiter filled in once and the user removed. A fill at or below one of them is dropped.
	Withheld []string
	// Username and Groups are who sent the request, as the API server authenticated them.
	Username string
	Groups   []string

	all *place
}

// Entry is a place in the object, a JSON Pointer, and what stands there, as JSON text.
type Entry struct{ Path, JSON string }

// At is what stands at a JSON Pointer (RFC 6901) of the object, as encoding/json has it: map[string]any, []any, string, float64, bool. Nil where nothing does.
func (r *Request) At(pointer string) any {
	if here := r.find(pointer); here != nil {
		return here.read()
	}
	return nil
}

// find is the part of the object at a JSON Pointer; nil where there is none.
func (r *Request) find(pointer string) *place {
	if r.all == nil {
		r.all = &place{text: r.JSON}
	}
	here := r.all
	for _, token := range strings.Split(pointer, "/")[1:] {
		here = here.part(strings.NewReplacer("~1", "/", "~0", "~").Replace(token))
		if here == nil {
			return nil
		}
	}
	return here
}

// Decode reads the object into a type of the policy's own. It reads all of it, which for a large object is most of what a review costs.
func (r *Request) Decode(into any) error { return json.Unmarshal([]byte(r.JSON), into) }
