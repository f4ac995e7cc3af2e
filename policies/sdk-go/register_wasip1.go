package policy

import (
	"github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/export_wit_world"
	raw "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/tidewaiter_policy_types"
	_ "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/wit_exports" // The component's exports.
	witTypes "go.bytecodealliance.org/pkg/wit/types"
)

// Register makes the policy the component's: once, in an init function.
func Register[S any](p Policy[S]) {
	export_wit_world.Describe = func() raw.Description {
		said := p.Describe()
		objects := make([]raw.ObjectKind, len(said.Objects))
		for index, kind := range said.Objects {
			objects[index] = raw.ObjectKind{ApiVersion: kind.APIVersion, Kind: kind.Kind}
		}
		return raw.Description{
			Name:           said.Name,
			Version:        said.Version,
			Summary:        said.Summary,
			SettingsSchema: witTypes.Some(said.Schema),
			Objects:        objects,
		}
	}
	export_wit_world.CheckSettings = func(settings string) witTypes.Result[witTypes.Unit, string] {
		if err := p.CheckSettings(settings); err != nil {
			return witTypes.Err[witTypes.Unit](err.Error())
		}
		return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
	}
	export_wit_world.Review = func(request raw.Request, settings string) raw.Verdict {
		verdict, err := p.Answer(lift(request), settings)
		if err != nil {
			// The engine calls check-settings first and with the same text. A trap is then the only answer that is no lie.
			panic(err)
		}
		return lower(verdict)
	}
}

func lift(request raw.Request) *Request {
	lifted := &Request{
		Update:     request.Operation == raw.OperationUpdate,
		APIVersion: request.ApiVersion,
		Kind:       request.Kind,
		Namespace:  request.Namespace,
		Name:       request.Name,
		Object:     serviceOf(request.Object),
		JSON:       request.Object,
		OldJSON:    request.OldObject.SomeOr(""),
		Withheld:   request.Withheld,
		Username:   request.Username,
		Groups:     request.Groups,
	}
	for _, entry := range request.Filled {
		lifted.Filled = append(lifted.Filled, Entry{entry.Path, entry.Value})
	}
	return lifted
}

func lower(verdict *Verdict) raw.Verdict {
	lowered := raw.Verdict{Denial: witTypes.None[raw.Denial](), Warnings: verdict.Warnings}
	if denial := verdict.Denial; denial != nil {
		path := witTypes.None[string]()
		if denial.Path != "" {
			path = witTypes.Some(denial.Path)
		}
		lowered.Denial = witTypes.Some(raw.Denial{Code: denial.Code, Message: denial.Message, Path: path})
	}
	for _, fill := range verdict.Fills {
		lowered.Fills = append(lowered.Fills, raw.Fill{Path: fill.Path, Value: fill.JSON, Reason: fill.Reason})
	}
	for _, asked := range verdict.Credentials {
		credentials := raw.Credentials{Backend: asked.Backend, Delivery: uint8(asked.Delivery)}
		lowered.Effects = append(lowered.Effects, raw.MakeEffectCredentials(credentials))
	}
	return lowered
}
