module house-rules

go 1.25

require github.com/tidewaiter/tidewaiter/policies/sdk-go v0.0.0

require go.bytecodealliance.org/pkg v0.2.1 // indirect

replace github.com/tidewaiter/tidewaiter/policies/sdk-go => ../../sdk-go
