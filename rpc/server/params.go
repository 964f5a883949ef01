// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"dpservice/dpservice/fault"
)

// invalid returns the error of a request whose params are wrong.
func invalid(format string, args ...any) error {
	return fault.New(fault.InvalidParams, "", "invalid params: "+format, args...)
}

// decode stores params in the struct that v points to. Unlike json.Unmarshal it takes no unknown field and no
// field in another case, and wants every field that is tagged `rpc:"required"`.
func decode(params json.RawMessage, v any) error {
	if len(params) == 0 || string(params) == "null" {
		params = json.RawMessage("{}")
	}
	if params[0] != '{' {
		return invalid("want an object with named fields")
	}
	var tree any
	if err := json.Unmarshal(params, &tree); err != nil {
		return invalid("%v", err)
	}
	if err := checkFields("", tree, reflect.TypeOf(v).Elem()); err != nil {
		return err
	}
	err := json.Unmarshal(params, v)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return invalid("field %q: want %s, got %s", wrongType.Field, typeName(wrongType.Type), wrongType.Value)
	}
	if err != nil {
		return invalid("%v", err)
	}
	return nil
}

// checkFields finds unknown and missing fields in the JSON value tree, which will be decoded into a t. Values of
// the wrong type are left to json.Unmarshal.
func checkFields(path string, tree any, t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch value := tree.(type) {
	case []any:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for i, element := range value {
			if err := checkFields(fmt.Sprintf("%s[%d]", path, i), element, t.Elem()); err != nil {
				return err
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return nil
		}
		return checkObject(path, value, t)
	}
	return nil
}

// checkObject is checkFields for an object.
func checkObject(path string, object map[string]any, t reflect.Type) error {
	if path != "" {
		path += "."
	}
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = f
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f, ok := fields[name]
		if !ok || name == "" {
			return invalid("unknown field %q", path+name)
		}
		if err := checkFields(path+name, object[name], f.Type); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name].Tag.Get("rpc") == "required" && object[name] == nil {
			return invalid("missing field %q", path+name)
		}
	}
	return nil
}

// typeName names the JSON type that becomes a t, for people.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "an array"
	case reflect.Struct:
		return "an object"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a number from 0 to %d", uint64(1)<<t.Bits()-1)
	default:
		return "a number"
	}
}
