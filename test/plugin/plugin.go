// SPDX-License-Identifier: Apache-2.0

// Package plugin gives tests the net_eswitch driver from where EAL agrees to load it: EAL refuses a plugin below a
// folder that everyone may write to, and a checkout may well lie below one.
package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const name = "librte_net_eswitch.so"

// Source is the plugin's file: what the environment variable DPSERVICE_PLUGIN says, or else what `make build` has put
// into the build folder of the checkout around the working directory.
func Source() (string, error) {
	if path := os.Getenv("DPSERVICE_PLUGIN"); path != "" {
		return path, nil
	}
	path, err := Built(name)
	if err != nil {
		return "", fmt.Errorf("no test NIC: %w, or set DPSERVICE_PLUGIN", err)
	}
	return path, nil
}

// Built is the path of what `make build` has put under this name into the build folder of the checkout around the
// working directory.
func Built(name string) (string, error) {
	root, err := checkout()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run `make build`", err)
	}
	return path, nil
}

// Install copies the plugin into a private folder below /run and returns the copy's path for EAL's -d. remove takes the
// folder away again. On error nothing stays behind.
func Install() (path string, remove func() error, err error) {
	source, err := Source()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("/run", "dpservice-plugin-") // mode 0700
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, name)
	if err := copyFile(source, path); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return path, func() error { return os.RemoveAll(dir) }, nil
}

// checkout is the folder with go.mod at or above the working directory, where go test runs a package's tests.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod at or above the working directory")
		}
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
