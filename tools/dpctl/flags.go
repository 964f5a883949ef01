// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

// mandatory makes a flag a required one.
func mandatory(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // there is no such flag
	}
}

// given returns the value of a flag, nil if it is not on the command line.
func given[T any](cmd *cobra.Command, flag string, value *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return value
}

// lister returns the words that a shell may complete to.
type lister func(cmd *cobra.Command) []string

// complete makes the shell complete a flag to the words that list returns.
func complete(cmd *cobra.Command, flag string, list lister) {
	f := func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return list(cmd), cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag
	}
}

// fixed makes the shell complete a flag to the words.
func fixed(cmd *cobra.Command, flag string, words ...string) {
	complete(cmd, flag, func(*cobra.Command) []string { return words })
}

// first makes the shell complete the first argument to the words that list returns.
func first(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(cmd), cobra.ShellCompDirectiveNoFileComp
	}
}

// interfaceIDs asks the daemon for the ids of the interfaces.
func (a *app) interfaceIDs(cmd *cobra.Command) []string {
	r := ask(a, cmd, api.MethodInterfaceList)
	return each(r.Interfaces, func(i api.Interface) string { return i.ID })
}

// portNames asks the daemon for the names of the ports.
func (a *app) portNames(cmd *cobra.Command) []string {
	r := ask(a, cmd, api.MethodPortList)
	return each(r.Ports, func(p api.Port) string { return p.Name })
}

// ask calls a method to complete a word. A daemon that does not answer at once has nothing to complete.
func ask[R any](a *app, cmd *cobra.Command, m api.Method[api.None, R]) R {
	var r R
	if err := a.check(); err != nil {
		return r
	}
	a.timeout = time.Second
	result, err := a.call(cmd.Context(), m, nil)
	if err == nil {
		_ = json.Unmarshal(result, &r) // what is not there is not completed
	}
	return r
}
