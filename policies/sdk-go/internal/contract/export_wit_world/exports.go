// Package export_wit_world is where the generated exports of a component look for a policy: the SDK puts it here.
package export_wit_world

import (
	"github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/tidewaiter_policy_types"
	witTypes "go.bytecodealliance.org/pkg/wit/types"
)

var (
	// Describe says what the policy is.
	Describe func() tidewaiter_policy_types.Description
	// CheckSettings says whether settings (JSON text) can be used.
	CheckSettings func(settings string) witTypes.Result[witTypes.Unit, string]
	// Review answers one request.
	Review func(request tidewaiter_policy_types.Request, settings string) tidewaiter_policy_types.Verdict
)
