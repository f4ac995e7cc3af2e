package policy

// InferenceService is the part of KServe's InferenceService that policies look at. It is what somebody wrote, so any part may be missing; what isn't
// here is in [Request.JSON]. Fields: KServe's API reference, serving.kserve.io/v1beta1.
type InferenceService struct {
	Metadata `json:"metadata"`
	Spec     struct {
		// Predictor, Transformer and Explainer are nil where the service has none.
		Predictor   *Predictor `json:"predictor"`
		Transformer *Component `json:"transformer"`
		Explainer   *Component `json:"explainer"`
	} `json:"spec"`
}

// Metadata is the object's.
type Metadata struct {
	Name         string            `json:"name"`
	GenerateName string            `json:"generateName"`
	Namespace    string            `json:"namespace"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
}

// Component is what predictor, transformer and explainer have in common.
type Component struct {
	MinReplicas          *int32            `json:"minReplicas"`
	MaxReplicas          int32             `json:"maxReplicas"`
	ScaleTarget          *int32            `json:"scaleTarget"`
	ScaleMetric          string            `json:"scaleMetric"`
	ContainerConcurrency *int64            `json:"containerConcurrency"`
	Timeout              *int64            `json:"timeout"`
	CanaryTrafficPercent *int64            `json:"canaryTrafficPercent"`
	ServiceAccountName   string            `json:"serviceAccountName"`
	NodeSelector         map[string]string `json:"nodeSelector"`
	Containers           []Container       `json:"containers"`
	Labels               map[string]string `json:"labels"`
	Annotations          map[string]string `json:"annotations"`
}

// Predictor serves a model.
type Predictor struct {
	Component
	// Model is nil where the predictor is containers of the user's own.
	Model *Model `json:"model"`
}

// Model is spec.predictor.model: a model for a serving runtime.
type Model struct {
	Container
	ModelFormat struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"modelFormat"`
	StorageURI string `json:"storageUri"`
	Storage    *struct {
		Key        string            `json:"key"`
		Path       string            `json:"path"`
		SchemaPath string            `json:"schemaPath"`
		Parameters map[string]string `json:"parameters"`
	} `json:"storage"`
	Runtime         string `json:"runtime"`
	RuntimeVersion  string `json:"runtimeVersion"`
	ProtocolVersion string `json:"protocolVersion"`
}

// Container is one of a Pod's.
type Container struct {
	Name  string   `json:"name"`
	Image string   `json:"image"`
	Args  []string `json:"args"`
	Env   []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	Ports []struct {
		Name          string `json:"name"`
		ContainerPort int32  `json:"containerPort"`
		Protocol      string `json:"protocol"`
	} `json:"ports"`
	Resources Resources `json:"resources"`
}

// Resources are quantities, such as "2Gi", or numbers as YAML has them.
type Resources struct {
	Requests map[string]any `json:"requests"`
	Limits   map[string]any `json:"limits"`
}
