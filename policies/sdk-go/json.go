package policy

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// deepest is how deep values of any type may be nested. What lies deeper is as if it weren't there: who follows it to its end runs out of stack.
const deepest = 500

// reader reads JSON text that the host vouches for. encoding/json looks at each byte several times, and an object may have a megabyte of what its user padded it
// with: a policy that runs out of time over that was got round. So what nobody asks for is passed over, and a text is a part of the object's own where no
// escape is in it.
type reader struct {
	text string
	at   int
	deep int
}

// begin is the first byte of what comes after white space; 0 at the end.
func (r *reader) begin() byte {
	for ; r.at < len(r.text); r.at++ {
		switch one := r.text[r.at]; one {
		case ' ', '\t', '\n', '\r':
		default:
			return one
		}
	}
	return 0
}

// each goes through the object or array that begins here, and stands at a value each time. An array's have no name.
func (r *reader) each(read func(name string)) {
	named := r.text[r.at] == '{'
	r.at++
	for {
		switch r.begin() {
		case 0:
			return
		case '}', ']':
			r.at++
			return
		case ',':
			r.at++
			continue
		}
		name := ""
		if named {
			name = r.string()
			if r.begin() == ':' {
				r.at++
			}
			r.begin()
		}
		read(name)
	}
}

// quoted passes over the text that begins here; whether it is as it is written.
func (r *reader) quoted() (raw string, plain bool) {
	plain = true
	for at := r.at + 1; at < len(r.text); at++ {
		switch r.text[at] {
		case '\\':
			plain = false
			at++
		case '"':
			raw = r.text[r.at : at+1]
			r.at = at + 1
			return raw, plain
		}
	}
	r.at = len(r.text)
	return `""`, true
}

func (r *reader) string() string {
	raw, plain := r.quoted()
	if plain {
		return raw[1 : len(raw)-1]
	}
	var text string
	_ = json.Unmarshal([]byte(raw), &text)
	return text
}

// skip passes over the value that begins here.
func (r *reader) skip() (raw string) {
	begin := r.at
	for depth := 0; r.at < len(r.text); {
		switch r.text[r.at] {
		case '"':
			r.quoted()
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		default:
			if depth > 0 {
				r.at++
				continue
			}
			length := strings.IndexAny(r.text[r.at:], ",]} \t\n\r")
			if length < 0 {
				length = len(r.text) - r.at
			}
			r.at += length
		}
		if depth <= 0 {
			break
		}
	}
	return r.text[begin:r.at]
}

// count is how many values are in the object or array that begins here. What grows while it is read has the garbage collector run again and again.
func (r *reader) count() int {
	ahead, count := *r, 0
	ahead.each(func(string) {
		ahead.skip()
		count++
	})
	return count
}

// into reads the value that comes next; false where it is of another type, and nothing is read.
func (r *reader) into(value reflect.Value) bool {
	begin := r.begin()
	switch kind := value.Kind(); {
	case kind == reflect.Pointer:
		one := reflect.New(value.Type().Elem())
		if !r.into(one.Elem()) {
			return false
		}
		value.Set(one)
		return true
	case kind == reflect.String && begin == '"':
		value.SetString(r.string())
		return true
	case kind == reflect.Int32 || kind == reflect.Int64:
		number, err := strconv.ParseInt(r.skip(), 10, value.Type().Bits())
		if err != nil {
			return false
		}
		value.SetInt(number)
		return true
	case kind == reflect.Struct && begin == '{':
		fields := fieldsOf(value.Type())
		r.each(func(name string) {
			if index, known := fields[name]; known {
				r.into(value.FieldByIndex(index))
			} else {
				r.skip()
			}
		})
		return true
	case kind == reflect.Map && begin == '{':
		texts, plain := value.Addr().Interface().(*map[string]string)
		if !plain {
			value.Set(reflect.ValueOf(r.any()))
			return true
		}
		*texts = make(map[string]string, r.count())
		r.each(func(name string) {
			if r.begin() == '"' {
				(*texts)[name] = r.string()
			} else {
				r.skip()
			}
		})
		return true
	case kind == reflect.Slice && begin == '[':
		value.Set(reflect.MakeSlice(value.Type(), 0, r.count()))
		r.each(func(string) {
			last := value.Len()
			value.Grow(1)
			value.SetLen(last + 1)
			r.into(value.Index(last))
		})
		return true
	}
	r.skip()
	return false
}

// any reads the value that comes next as encoding/json has it.
func (r *reader) any() any {
	switch begin := r.begin(); {
	case begin == '"':
		return r.string()
	case r.deep == deepest:
	case begin == '{':
		r.deep++
		members := map[string]any{}
		r.each(func(name string) { members[name] = r.any() })
		r.deep--
		return members
	case begin == '[':
		r.deep++
		items := []any{}
		r.each(func(string) { items = append(items, r.any()) })
		r.deep--
		return items
	}
	switch word := r.skip(); word {
	case "true", "false":
		return word == "true"
	default:
		if number, err := strconv.ParseFloat(word, 64); err == nil {
			return number
		}
		return nil
	}
}

var known = map[reflect.Type]map[string][]int{}

// fieldsOf finds a struct's fields by their names in JSON, with those of the structs embedded in it.
func fieldsOf(of reflect.Type) map[string][]int {
	if fields, found := known[of]; found {
		return fields
	}
	fields := map[string][]int{}
	for index := range of.NumField() {
		field := of.Field(index)
		if name := field.Tag.Get("json"); name != "" {
			fields[name] = []int{index}
		} else if field.Anonymous {
			for name, below := range fieldsOf(field.Type) {
				fields[name] = append([]int{index}, below...)
			}
		}
	}
	known[of] = fields
	return fields
}

// serviceOf reads what policies look at of an object.
func serviceOf(text string) (service InferenceService) {
	(&reader{text: text}).into(reflect.ValueOf(&service).Elem())
	return service
}

// place is a part of the object. What is in it is found once it is looked for.
type place struct {
	text  string
	parts map[string]*place
	value any
}

// part is a member, or an item by its number; nil where there is none.
func (p *place) part(name string) *place {
	if p.parts == nil {
		p.parts = map[string]*place{}
		r := reader{text: p.text}
		if begin := r.begin(); begin == '{' || begin == '[' {
			r.each(func(name string) {
				if begin == '[' {
					name = strconv.Itoa(len(p.parts))
				}
				p.parts[name] = &place{text: r.skip()}
			})
		}
	}
	return p.parts[name]
}

func (p *place) read() any {
	if p.value == nil {
		p.value = (&reader{text: p.text}).any()
	}
	return p.value
}
