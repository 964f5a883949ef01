// SPDX-License-Identifier: Apache-2.0

package config

import "reflect"

// Changed returns the keys, such as flows.timeouts.udp, whose values differ, in the order of the fields.
func Changed(a, b Config) []string {
	return changed(reflect.ValueOf(a), reflect.ValueOf(b), "")
}

func changed(a, b reflect.Value, prefix string) []string {
	var keys []string
	for i := range a.NumField() {
		field := a.Type().Field(i)
		key := prefix + field.Tag.Get("yaml")
		switch {
		case isSection(field.Type):
			keys = append(keys, changed(a.Field(i), b.Field(i), key+".")...)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			keys = append(keys, key)
		}
	}
	return keys
}
