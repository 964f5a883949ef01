// SPDX-License-Identifier: Apache-2.0

package config

import (
	"github.com/goccy/go-yaml"

	"dpservice/dpservice/access"
	"dpservice/wire"
)

// Text returns the configuration as YAML, for a report. No key of it holds a secret.
func (c Config) Text() (string, error) {
	// No rules of access are something else than an empty list of them.
	rules := yaml.CustomMarshaler[[]access.Rule](func(all []access.Rule) ([]byte, error) {
		if all == nil {
			return []byte("null"), nil
		}
		return yaml.Marshal(all)
	})
	router := yaml.CustomMarshaler[wire.MAC](func(mac wire.MAC) ([]byte, error) {
		if mac == (wire.MAC{}) {
			return []byte("auto"), nil
		}
		return yaml.Marshal(mac.String())
	})
	text, err := yaml.MarshalWithOptions(c, rules, router)
	return string(text), err
}

// MarshalText implements encoding.TextMarshaler.
func (l Listen) MarshalText() ([]byte, error) {
	if l.Network == "unix" {
		return []byte("unix:" + l.Address), nil
	}
	return []byte(l.Address), nil
}
