// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

// formats are the output formats.
var formats = []string{"table", "json", "yaml", "name"}

// view says how to show a result of type R.
type view[R any] struct {
	table func(w io.Writer, r R)
	names func(r R) []string // the names of the items in the result; nil if it has none
}

// command returns the RunE of a command that calls a method and shows the result. The function params reads the
// parameters from the command line; if it is nil, they are the zero value.
func command[P, R any](a *app, m api.Method[P, R], params func(args []string) (P, error),
	v view[R]) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if a.output == "name" && v.names == nil {
			return fmt.Errorf("%s has no names to show: use another -o", cmd.CommandPath())
		}
		var p P
		if params != nil {
			var err error
			if p, err = params(args); err != nil {
				return err
			}
		}
		result, err := a.call(cmd.Context(), m, p)
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), a.output, result, v)
	}
}

// show writes a result in the given format. JSON and YAML contain all fields that the daemon sent, even those that
// dpctl does not know.
func show[R any](w io.Writer, format string, result json.RawMessage, v view[R]) error {
	var text bytes.Buffer
	if err := render(&text, format, result, v); err != nil {
		return failure{err}
	}
	if _, err := w.Write(text.Bytes()); err != nil {
		return failure{err}
	}
	return nil
}

func render[R any](w *bytes.Buffer, format string, result json.RawMessage, v view[R]) error {
	switch format {
	case "json":
		return writeJSON(w, result)
	case "yaml":
		return writeYAML(w, result)
	}
	var r R
	if err := json.Unmarshal(result, &r); err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	if format == "name" {
		for _, name := range v.names(r) {
			fmt.Fprintln(w, name)
		}
		return nil
	}
	v.table(w, r)
	return nil
}

func writeJSON(w *bytes.Buffer, result json.RawMessage) error {
	if err := json.Indent(w, result, "", "  "); err != nil {
		return err
	}
	w.WriteByte('\n')
	return nil
}

func writeYAML(w *bytes.Buffer, result json.RawMessage) error {
	var ordered any
	if err := yaml.UnmarshalWithOptions(result, &ordered, yaml.UseOrderedMap()); err != nil {
		return err
	}
	// In YAML 1.1, which most parsers still implement, 52:54:00:12:34:56 is a number in base 60.
	quoted := yaml.CustomMarshaler[string](func(s string) ([]byte, error) {
		if strings.Contains(s, ":") {
			return []byte(strconv.Quote(s)), nil
		}
		return yaml.Marshal(s)
	})
	text, err := yaml.MarshalWithOptions(ordered, quoted)
	w.Write(text)
	return err
}

// table writes rows of cells in columns. The titles in head are separated by white space.
func table(w io.Writer, head string, rows [][]any) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(strings.Fields(head), "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = fmt.Sprint(cell); cells[i] == "" {
				cells[i] = "-" // no column is empty, which helps people and awk
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	_ = tw.Flush() // w is a buffer
}

// lines writes one name and value per line.
func lines(w io.Writer, pairs [][2]any) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, pair := range pairs {
		fmt.Fprintf(tw, "%v:\t%v\n", pair[0], pair[1])
	}
	_ = tw.Flush() // w is a buffer
}

// each applies f to every element.
func each[T, R any](in []T, f func(T) R) []R {
	out := make([]R, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

// orDash returns the value, or a dash if there is none.
func orDash[T any](v *T) any {
	if v == nil {
		return "-"
	}
	return *v
}
