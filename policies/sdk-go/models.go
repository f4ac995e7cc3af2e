package policy

import (
	"strconv"
	"strings"
)

// ModelURI is where a model lies, as somebody wrote it, and a JSON Pointer to the field that says so.
type ModelURI struct{ URI, Path string }

// implementations are fields that say how a component is implemented; the first one counts.
var implementations = []string{
	"model", "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle", "art",
}

// ModelURIs are where the models lie that the service loads, in all the shapes that KServe 0.15 to 0.20 has: model and the older sklearn and others, storageUris, the
// variable STORAGE_URI of a container of the user's own, canaries, and an LLMInferenceService's model and adapters. What is empty or no text is left out. A storage
// without a URI names its place by a key in a Secret, and isn't here.
func (r *Request) ModelURIs() (found []ModelURI) {
	look := func(path string) {
		if uri := r.text(path); uri != "" {
			found = append(found, ModelURI{uri, path})
		}
	}
	if r.text("/kind") == "LLMInferenceService" {
		look("/spec/model/uri")
		for _, adapter := range r.items("/spec/model/lora/adapters") {
			look(adapter + "/uri")
		}
		return found
	}
	components := []string{"/spec/predictor", "/spec/transformer", "/spec/explainer"}
	for _, canary := range r.items("/spec/canary") {
		components = append(components, canary+"/predictor")
	}
	for _, component := range components {
		if implementation := r.implementation(component); implementation != "" {
			look(implementation + "/storageUri")
		} else if variable := r.storageVariable(component); variable != "" {
			look(variable + "/value")
		}
		for _, entry := range r.items(component + "/storageUris") {
			look(entry + "/uri")
		}
	}
	return found
}

func (r *Request) implementation(component string) string {
	for _, field := range implementations {
		if path := component + "/" + field; r.begin(path) == '{' {
			return path
		}
	}
	return ""
}

// storageVariable is the variable by which a component of the user's own names its model. KServe looks for it in the container that it takes for the server: a
// predictor's by its name, or the only one, or the first where it has no name; else the first.
func (r *Request) storageVariable(component string) string {
	containers := r.items(component + "/containers")
	if len(containers) == 0 {
		return ""
	}
	server := containers[0]
	if strings.HasSuffix(component, "/predictor") {
		if len(containers) > 1 && r.text(server+"/name") != "" {
			server = ""
		}
		for _, container := range containers {
			if r.text(container+"/name") == "kserve-container" {
				server = container
				break
			}
		}
	}
	for _, variable := range r.items(server + "/env") {
		if r.text(variable+"/name") == "STORAGE_URI" {
			return variable
		}
	}
	return ""
}

// begin is the first byte of what stands at a JSON Pointer; 0 where nothing does.
func (r *Request) begin(pointer string) byte {
	here := r.find(pointer)
	if here == nil {
		return 0
	}
	return (&reader{text: here.text}).begin()
}

// text is the text at a JSON Pointer; empty where nothing or something else stands.
func (r *Request) text(pointer string) string {
	if r.begin(pointer) != '"' {
		return ""
	}
	text, _ := r.At(pointer).(string)
	return text
}

// items are the JSON Pointers to the items of the list at one; none where something else stands.
func (r *Request) items(pointer string) []string {
	if r.begin(pointer) != '[' {
		return nil
	}
	list := &reader{text: r.find(pointer).text}
	list.begin()
	items := make([]string, list.count())
	for index := range items {
		items[index] = pointer + "/" + strconv.Itoa(index)
	}
	return items
}
