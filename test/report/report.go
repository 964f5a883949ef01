// SPDX-License-Identifier: Apache-2.0

// Package report lets tests say how much they have tried. go test hides what the tests of a passing package print, so
// `make test` names a file, and shows that at its end.
package report

import (
	"fmt"
	"os"
	"testing"
)

// file is the environment variable that names the file.
const file = "DPSERVICE_TEST_REPORT"

// Printf prints a line, and appends it to the file that the environment variable DPSERVICE_TEST_REPORT names, if it
// does. It may be called at any time by any number of processes; the test fails when the line cannot be written.
func Printf(t testing.TB, format string, args ...any) {
	t.Helper()
	if err := Line(format, args...); err != nil {
		t.Errorf("reporting what was tried: %v", err)
	}
}

// Line is Printf for what is known only when the tests have ended.
func Line(format string, args ...any) error {
	line := fmt.Sprintf(format, args...) + "\n"
	fmt.Print(line)
	path := os.Getenv(file)
	if path == "" {
		return nil
	}
	return write(path, line)
}

// write appends by a single call, which other processes cannot cut into.
func write(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
