// Package log writes lines for the server's log, with the policy's and the object's name added.
package log

import (
	"fmt"

	raw "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract/tidewaiter_policy_log"
)

// Debugf writes a line for who looks for it.
func Debugf(format string, values ...any) { raw.Write(raw.LevelDebug, fmt.Sprintf(format, values...)) }

// Infof writes a line that explains.
func Infof(format string, values ...any) { raw.Write(raw.LevelInfo, fmt.Sprintf(format, values...)) }

// Warnf writes a line of what may be wrong.
func Warnf(format string, values ...any) { raw.Write(raw.LevelWarn, fmt.Sprintf(format, values...)) }

// Errorf writes a line of what is wrong.
func Errorf(format string, values ...any) { raw.Write(raw.LevelError, fmt.Sprintf(format, values...)) }
