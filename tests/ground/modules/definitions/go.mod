module tidewaiter.dev/ground/definitions

go 1.26.7

require (
	github.com/kyverno/kyverno v1.19.1
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
