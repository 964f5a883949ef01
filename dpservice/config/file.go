// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"

	"dpservice/wire"
)

// load overlays cfg with the YAML file at name.
func load(name string, cfg *Config) error {
	text, err := read(name)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := parse(text, cfg); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// read returns the text of a file that nobody can have changed but root and the daemon's user.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := trusted(name, info); err != nil {
		return nil, err
	}
	if err := trustedFolders(name); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// trustedFolders checks the folders above a file, and above what it is a link to: who can write to one of them can put
// another file in its place.
func trustedFolders(name string) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(target)} {
		for ; ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return err
			}
			if err := trusted(dir, info); err != nil {
				return err
			}
			if dir == "/" {
				break
			}
		}
	}
	return nil
}

// trusted refuses what somebody else owns or can write to. In a sticky folder nobody can replace another's file.
func trusted(name string, info fs.FileInfo) error {
	const othersWrite = 0o022
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner != 0 && owner != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, who is neither root nor the daemon's", name, owner)
	}
	if info.Mode().Perm()&othersWrite != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("others can write to %s: its mode is %04o", name, info.Mode().Perm())
	}
	return nil
}

// parse overlays cfg with YAML text. A key that is not known is an error that names it, and so is one without a value,
// or with a fraction. An empty section keeps its defaults, and so does an empty text.
func parse(text []byte, cfg *Config) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var tree any
	err := decoder.Decode(&tree)
	if errors.Is(err, io.EOF) || err == nil && tree == nil {
		return nil
	}
	if err != nil {
		return errors.New(yaml.FormatError(err, false, true))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one document in the file")
	}
	defaults, scratch := *cfg, *cfg
	if err := check("", tree, reflect.ValueOf(&scratch).Elem(), reflect.ValueOf(&defaults).Elem()); err != nil {
		return err // which names the key with its sections; the decoder's errors do not
	}
	if err := yaml.UnmarshalWithOptions(text, cfg, yaml.Strict(), yaml.CustomUnmarshaler(unmarshalRouterMAC)); err != nil {
		return errors.New(yaml.FormatError(err, false, true))
	}
	return check("", tree, reflect.ValueOf(cfg).Elem(), reflect.ValueOf(&defaults).Elem())
}

// unmarshalRouterMAC reads underlay.router_mac, the only MAC in the configuration.
func unmarshalRouterMAC(mac *wire.MAC, value []byte) (err error) {
	var text string
	if err = yaml.Unmarshal(value, &text); err != nil {
		return err
	}
	*mac, err = parseRouterMAC(text)
	return err
}

// check finds errors that the YAML decoder accepts: a value that is missing, or has a fraction. It gives an
// empty section in field, which tree was decoded into, its defaults back.
func check(path string, tree any, field, defaults reflect.Value) error {
	if isSection(field.Type()) {
		if tree == nil {
			field.Set(defaults)
			return nil
		}
		return checkSection(path, tree, field, defaults)
	}
	switch value := tree.(type) {
	case nil:
		return fmt.Errorf("%s has no value", path)
	case float64:
		if field.CanInt() || field.CanUint() {
			return fmt.Errorf("%s: %v is not a whole number", path, value)
		}
	case []any:
		return checkList(path, value, field)
	}
	return nil
}

// checkList is check for the elements of a list. A section in it has no defaults, so it must not be empty.
func checkList(path string, list []any, field reflect.Value) error {
	if field.Kind() != reflect.Slice {
		return nil // the decoder refuses it
	}
	var errs []error
	for i, value := range list {
		element := reflect.New(field.Type().Elem()).Elem()
		path := fmt.Sprintf("%s[%d]", path, i)
		errs = append(errs, checkEmpty(path, value), check(path, value, element, element))
	}
	return errors.Join(errs...)
}

// checkEmpty refuses a section or key without a value in an element of a list.
func checkEmpty(path string, tree any) error {
	if tree == nil {
		return fmt.Errorf("%s has no value", path)
	}
	section, _ := tree.(map[string]any)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(section)) {
		errs = append(errs, checkEmpty(path+"."+key, section[key]))
	}
	return errors.Join(errs...)
}

func checkSection(path string, tree any, field, defaults reflect.Value) error {
	section, ok := tree.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is no section: want keys with values", path)
	}
	var errs []error
	for i := range field.NumField() {
		key, _, _ := strings.Cut(field.Type().Field(i).Tag.Get("yaml"), ",")
		if value, ok := section[key]; ok {
			errs = append(errs, check(strings.TrimPrefix(path+"."+key, "."), value, field.Field(i), defaults.Field(i)))
		}
	}
	return errors.Join(errs...)
}

// isSection reports whether t is a struct of keys, not one that is a value.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// checkEnvironment refuses unknown variables with the prefix of settings.
func checkEnvironment(environ []string) error {
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		known := name == variable("config") || slices.ContainsFunc(settings,
			func(s setting) bool { return s.variable() == name })
		if strings.HasPrefix(name, prefix) && !known {
			errs = append(errs, fmt.Errorf("the variable %s of the environment is no setting", name))
		}
	}
	return errors.Join(errs...)
}
