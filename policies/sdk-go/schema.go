package policy

import (
	"encoding/json"
	"reflect"
	"strings"
)

// The JSON Schema of a settings struct, with its values as defaults. A struct without fields has none: nothing is said of what nobody set.
func schemaOf(settings any) string {
	value := reflect.ValueOf(settings)
	if value.Kind() != reflect.Struct || value.NumField() == 0 {
		return `{"type":"object","additionalProperties":false}`
	}
	text, err := json.Marshal(schema(value.Type(), value))
	if err != nil {
		panic("the schema of the settings can't be written: " + err.Error())
	}
	return string(text)
}

// schema is that of a type; value holds the defaults, and isn't valid where there are none.
func schema(of reflect.Type, value reflect.Value) map[string]any {
	switch of.Kind() {
	case reflect.Pointer:
		return schema(of.Elem(), reflect.Value{})
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": schema(of.Elem(), reflect.Value{})}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schema(of.Elem(), reflect.Value{})}
	case reflect.Struct:
		properties := map[string]any{}
		for index := range of.NumField() {
			field := of.Field(index)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "-" || !field.IsExported() {
				continue
			}
			if name == "" {
				name = field.Name
			}
			property := schema(field.Type, reflect.Value{})
			if field.Type.Kind() == reflect.Struct && value.IsValid() {
				property = schema(field.Type, value.Field(index))
			}
			if text := field.Tag.Get("description"); text != "" {
				property["description"] = text
			}
			if field.Tag.Get("shown") == "true" {
				property["x-shown"] = true
			}
			if value.IsValid() && !value.Field(index).IsZero() && field.Type.Kind() != reflect.Struct {
				property["default"] = value.Field(index).Interface()
			}
			properties[name] = property
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	default:
		return map[string]any{}
	}
}
