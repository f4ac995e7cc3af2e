package policy

import (
	"encoding/json"
	"fmt"
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
		var required []string
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
			restrict(property, field)
			if text := field.Tag.Get("description"); text != "" {
				property["description"] = text
			}
			if said(field, "shown") {
				property["x-shown"] = true
			}
			if said(field, "required") {
				required = append(required, name)
			} else if value.IsValid() && !value.Field(index).IsZero() && field.Type.Kind() != reflect.Struct {
				property["default"] = value.Field(index).Interface()
			}
			properties[name] = property
		}
		object := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
		if required != nil {
			object["required"] = required
		}
		return object
	default:
		return map[string]any{}
	}
}

// restrict adds what a field's tags say of its values to its schema: of a list's or a map's, to that of what is in it.
func restrict(schema map[string]any, field reflect.StructField) {
	of := field.Type
	for {
		switch of.Kind() {
		case reflect.Slice, reflect.Array:
			schema = schema["items"].(map[string]any)
		case reflect.Map:
			schema = schema["additionalProperties"].(map[string]any)
		case reflect.Pointer:
		default:
			restrictOne(schema, field, of)
			return
		}
		of = of.Elem()
	}
}

func restrictOne(schema map[string]any, field reflect.StructField, of reflect.Type) {
	number, text := of.Kind() >= reflect.Int && of.Kind() <= reflect.Float64, of.Kind() == reflect.String
	for _, keyword := range []string{"minimum", "maximum"} {
		if bound, found := field.Tag.Lookup(keyword); found {
			schema[keyword] = tagged(field, keyword, of, bound, number)
		}
	}
	if pattern, found := field.Tag.Lookup("pattern"); found {
		schema["pattern"] = tagged(field, "pattern", of, pattern, text)
	}
	if list, found := field.Tag.Lookup("enum"); found {
		var values []any
		for _, value := range strings.Split(list, ",") {
			values = append(values, tagged(field, "enum", of, value, number || text))
		}
		schema["enum"] = values
	}
}

// tagged is a tag's text as a value of the type. A tag that the type can't have is a mistake of the policy's author, who sees it at the first build or test.
func tagged(field reflect.StructField, tag string, of reflect.Type, text string, fits bool) any {
	if fits && of.Kind() == reflect.String {
		return text
	}
	value := reflect.New(of)
	if !fits || json.Unmarshal([]byte(text), value.Interface()) != nil {
		panic(fmt.Sprintf("the setting %s can't have the tag %s:%q: its type is %s", field.Name, tag, text, field.Type))
	}
	return value.Elem().Interface()
}

// said tells whether a tag is there that is true or not there.
func said(field reflect.StructField, tag string) bool { return field.Tag.Get(tag) == "true" }
