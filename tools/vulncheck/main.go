// SPDX-License-Identifier: Apache-2.0

// Command vulncheck runs govulncheck with the Go team's vulnerability data base, which it takes from the Go module
// golang.org/x/vulndb: that can be had wherever modules can. It fails on what a module or a Go toolchain that can be
// had would mend, and reports what it cannot.
//
//	vulncheck GOVULNCHECK DIRECTORY    the program, and where to lay the data base
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: vulncheck GOVULNCHECK DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(1)
	}
}

func run(program, dir string) error {
	source, err := download()
	if err != nil {
		return err
	}
	n, err := layDatabase(source, dir)
	if err != nil {
		return err
	}
	db, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	out, err := output(program, "-db", "file://"+db, "-format", "json", "./...")
	if err != nil {
		return err
	}
	found, err := parse(bytes.NewReader(out))
	if err != nil {
		return err
	}
	mendable := 0
	for _, f := range found {
		advice := "nothing that can be had mends it"
		if f.Fixed != "" && available(f.Module, f.Fixed) {
			advice = "mended by " + f.Module + " " + f.Fixed
			mendable++
		}
		fmt.Printf("%s in %s %s, called: %s\n", f.ID, f.Module, f.Version, advice)
	}
	fmt.Printf("vulncheck: %d vulnerabilities known, %d called, %d of them can be mended\n", n, len(found), mendable)
	if mendable > 0 {
		return fmt.Errorf("%d vulnerabilities are called, and can be mended: update the module, or the toolchain in go.mod",
			mendable)
	}
	return nil
}

// download returns the directory with the data base's entries, of the newest version of the module.
func download() (string, error) {
	out, err := output("go", "mod", "download", "-json", "golang.org/x/vulndb@latest")
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	return filepath.Join(module.Dir, "data", "osv"), nil
}

// output runs a program, and returns what it prints.
func output(program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return out, nil
}

// entry is what is needed of an entry in the data base.
type entry struct {
	ID        string  `json:"id"`
	Modified  string  `json:"modified"`
	Withdrawn *string `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
	} `json:"affected"`
}

// The index, which govulncheck reads first (https://go.dev/doc/security/vuln/database).
type (
	moduleIndex struct {
		Path  string      `json:"path"`
		Vulns []vulnIndex `json:"vulns"`
	}
	vulnIndex struct {
		ID       string `json:"id"`
		Modified string `json:"modified"`
	}
)

// layDatabase lays the entries in source into dir as govulncheck wants them, and returns how many there are.
func layDatabase(source, dir string) (int, error) {
	files, err := filepath.Glob(filepath.Join(source, "*.json"))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("no entries in %s", source)
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "ID"), 0o755),
		os.Mkdir(filepath.Join(dir, "index"), 0o755)); err != nil {
		return 0, err
	}
	modules := map[string][]vulnIndex{}
	for _, file := range files {
		if err := layEntry(file, dir, modules); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
	}
	index := make([]moduleIndex, 0, len(modules))
	for path, vulns := range modules {
		index = append(index, moduleIndex{path, vulns})
	}
	slices.SortFunc(index, func(a, b moduleIndex) int { return strings.Compare(a.Path, b.Path) })
	return len(files), errors.Join(
		writeJSON(filepath.Join(dir, "index", "modules.json"), index),
		writeJSON(filepath.Join(dir, "index", "db.json"), map[string]string{"modified": "0001-01-01T00:00:00Z"}))
}

func layEntry(file, dir string, modules map[string][]vulnIndex) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	if e.Withdrawn != nil {
		return nil
	}
	for _, a := range e.Affected {
		vuln := vulnIndex{e.ID, e.Modified}
		if vulns := modules[a.Package.Name]; !slices.Contains(vulns, vuln) {
			modules[a.Package.Name] = append(vulns, vuln)
		}
	}
	return os.WriteFile(filepath.Join(dir, "ID", e.ID+".json"), text, 0o644)
}

func writeJSON(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// finding is a vulnerability of which a symbol is called.
type finding struct{ ID, Module, Version, Fixed string }

// parse reads govulncheck's stream of messages. Vulnerabilities whose symbols are not called are left out, as
// govulncheck itself does.
func parse(r io.Reader) ([]finding, error) {
	var found []finding
	for decoder := json.NewDecoder(r); ; {
		var message struct {
			Finding *struct {
				OSV   string `json:"osv"`
				Fixed string `json:"fixed_version"`
				Trace []struct {
					Module   string `json:"module"`
					Version  string `json:"version"`
					Function string `json:"function"`
				} `json:"trace"`
			} `json:"finding"`
		}
		err := decoder.Decode(&message)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("govulncheck's output: %w", err)
		}
		f := message.Finding
		if f == nil || len(f.Trace) == 0 || f.Trace[0].Function == "" {
			continue
		}
		one := finding{f.OSV, f.Trace[0].Module, f.Trace[0].Version, f.Fixed}
		if !slices.Contains(found, one) {
			found = append(found, one)
		}
	}
}

// available reports whether a version of a module can be had; for the standard library, a toolchain.
func available(module, version string) bool {
	if module == "stdlib" || module == "toolchain" {
		out, err := output("go", "list", "-m", "-versions", "golang.org/toolchain")
		want := "v0.0.1-go" + strings.TrimPrefix(version, "v") + ".linux-amd64"
		return err == nil && slices.Contains(strings.Fields(string(out)), want)
	}
	_, err := output("go", "list", "-m", module+"@"+version)
	return err == nil
}
