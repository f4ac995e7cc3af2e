//go:build !wasip1

package policy

// Register makes the policy the component's: once, in an init function. Natively, where a policy's own tests run, it does nothing.
func Register[S any](Policy[S]) {}
