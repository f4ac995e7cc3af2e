// Package storage is the model stores of the cluster, inside what the object's namespace may use. Names and answers, never a secret. All calls of one review share one time
// budget (2 s unless the admin says otherwise).
package storage

import (
	"fmt"

	policy "github.com/tidewaiter/tidewaiter/policies/sdk-go"
	raw "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/tidewaiter_policy_storage"
	witTypes "go.bytecodealliance.org/pkg/wit/types"
)

// Resolution is which backend serves a URI: one of [Served], [OwnSecret], [NotGranted], [Unusable], [Unserved], [NoCredentials] and [Unsupported].
type Resolution interface{ resolution() }

type (
	// Served is a backend that serves a URI for this namespace.
	Served struct {
		// Backend is the StorageBackend's name, Kind such as s3, gcs, azure, huggingface, https or hdfs.
		Backend, Kind string
		Delivery      policy.Delivery
		// Anonymous: nothing needs to be delivered.
		Anonymous bool
		// Secret and ServiceAccount are the names that those with its credentials have, or will have, in this namespace.
		Secret, ServiceAccount, StorageKey string
	}
	// OwnSecret is the name of the namespace's own Secret for the URI.
	OwnSecret string
	// NotGranted: a backend serves the URI, but not for this namespace.
	NotGranted struct {
		Backend string
		// Allowed are the prefixes that this namespace may use on that backend.
		Allowed []string
		// Contact is whom to ask; empty where nobody is named.
		Contact string
	}
	// Unusable: a backend serves the URI, but nobody can use it until its admin has mended it.
	Unusable struct{ Backend, Reason, Contact string }
	// Unserved: no backend serves the URI.
	Unserved struct{}
	// NoCredentials: not a URI that needs or can have credentials here (pvc:, oci:).
	NoCredentials struct{}
	// Unsupported: KServe can't load the URI; why, and what to write instead.
	Unsupported string
)

func (Served) resolution()        {}
func (OwnSecret) resolution()     {}
func (NotGranted) resolution()    {}
func (Unusable) resolution()      {}
func (Unserved) resolution()      {}
func (NoCredentials) resolution() {}
func (Unsupported) resolution()   {}

// Resolve says which backend serves this URI for the object's namespace.
func Resolve(uri string) Resolution {
	found := raw.Resolve(uri)
	switch found.Tag() {
	case raw.ResolutionServed:
		one := found.Served()
		delivery := policy.Delivery(one.Delivery)
		return Served{one.Backend, one.Kind, delivery, one.Anonymous, one.Secret, one.ServiceAccount, one.StorageKey}
	case raw.ResolutionOwnSecret:
		return OwnSecret(found.OwnSecret())
	case raw.ResolutionNotGranted:
		one := found.NotGranted()
		return NotGranted{one.Backend, one.Allowed, one.Contact.SomeOr("")}
	case raw.ResolutionUnusable:
		one := found.Unusable()
		return Unusable{one.Backend, one.Reason, one.Contact.SomeOr("")}
	case raw.ResolutionNoCredentials:
		return NoCredentials{}
	case raw.ResolutionUnsupported:
		return Unsupported(found.Unsupported())
	default:
		return Unserved{}
	}
}

// SecretAnnotation is the annotation by which KServe is told the name of a Secret; empty where KServe's configuration names none.
func SecretAnnotation() string { return raw.SecretAnnotation().SomeOr("") }

// Brought is what the user brought along.
type Brought struct {
	// Usable, Missing and Unknown say what is: at most one of them isn't empty.
	Usable, Missing, Unknown string
	// Managed are names of Secrets that Tidewaiter itself keeps in the namespace.
	Managed []string
}

// BroughtCredentials says whether the user brought credentials: by the Secret they name, else by the ServiceAccount they name, else by the namespace's default. Both
// may be empty.
func BroughtCredentials(serviceAccount, secret string) Brought {
	found := raw.BroughtCredentials(option(serviceAccount), option(secret))
	switch found.Tag() {
	case raw.BroughtUsable:
		return Brought{Usable: found.Usable()}
	case raw.BroughtMissing:
		return Brought{Missing: found.Missing()}
	case raw.BroughtUnknown:
		return Brought{Unknown: found.Unknown()}
	case raw.BroughtManaged:
		return Brought{Managed: found.Managed()}
	default:
		return Brought{}
	}
}

// Code is what a store's answer is that isn't the one asked for.
type Code string

// The codes.
const (
	NotFound    Code = "not-found"
	Forbidden   Code = "forbidden"
	Unreachable Code = "unreachable"
	NotServed   Code = "unserved"
	TooLarge    Code = "too-large"
)

// Error is a store's answer that isn't the one asked for.
type Error struct {
	Code Code
	// URI is what was asked for, Detail what the store says; it may be empty.
	URI, Detail string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s: %s", e.URI, e.Code)
	}
	return fmt.Sprintf("%s: %s: %s", e.URI, e.Code, e.Detail)
}

// ObjectInfo is an object in a store: Path relative to the URI that was asked for, Size in bytes.
type ObjectInfo = raw.ObjectInfo

// Listing is what lies below a URI; Truncated where there is more than was listed.
type Listing = raw.Listing

// Stat says of the object at exactly this URI what it is. Errors are an [*Error].
func Stat(uri string) (ObjectInfo, error) { return asked(uri, raw.Stat(uri)) }

// ListObjects lists the objects below this URI, in the order of their names; at most limit, and never more than 1,000.
func ListObjects(uri string, limit uint32) (Listing, error) {
	return asked(uri, raw.ListObjects(uri, limit))
}

// ListFolder lists what stands directly in this folder; a folder in it has a path that ends in /, and the size 0.
func ListFolder(uri string, limit uint32) (Listing, error) {
	return asked(uri, raw.ListFolder(uri, limit))
}

// Read reads length bytes from offset, fewer at the end of the object; at most 1 MiB a call.
func Read(uri string, offset uint64, length uint32) ([]byte, error) {
	return asked(uri, raw.Read(uri, offset, length))
}

func asked[T any](uri string, result witTypes.Result[T, raw.Error]) (T, error) {
	if result.IsOk() {
		return result.Ok(), nil
	}
	var none T
	failed := result.Err()
	switch failed.Tag() {
	case raw.ErrorForbidden:
		return none, &Error{Forbidden, uri, failed.Forbidden()}
	case raw.ErrorUnreachable:
		return none, &Error{Unreachable, uri, failed.Unreachable()}
	case raw.ErrorUnserved:
		return none, &Error{NotServed, uri, failed.Unserved()}
	case raw.ErrorTooLarge:
		return none, &Error{TooLarge, uri, fmt.Sprintf("%d bytes", failed.TooLarge())}
	default:
		return none, &Error{NotFound, uri, ""}
	}
}

func option(text string) witTypes.Option[string] {
	if text == "" {
		return witTypes.None[string]()
	}
	return witTypes.Some(text)
}
