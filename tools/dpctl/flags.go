// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

// mandatory marks a flag as required.
func mandatory(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // there is no such flag
	}
}

// given returns the value of a flag, or nil if the flag is not on the command line.
func given[T any](cmd *cobra.Command, flag string, value *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return value
}

// lister returns the words that the shell can complete.
type lister func(cmd *cobra.Command) []string

// complete lets the shell complete a flag with the words that list returns.
func complete(cmd *cobra.Command, flag string, list lister) {
	f := func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return list(cmd), cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag
	}
}

// fixed lets the shell complete a flag with the given words.
func fixed(cmd *cobra.Command, flag string, words ...string) {
	complete(cmd, flag, func(*cobra.Command) []string { return words })
}

// first lets the shell complete the first argument with the words that list returns.
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

// ask calls a method for the completion of a word. Nothing is completed if the daemon does not answer at once.
func ask[R any](a *app, cmd *cobra.Command, m api.Method[api.None, R]) R {
	var r R
	if err := a.check(); err != nil {
		return r
	}
	a.timeout = time.Second
	result, err := a.call(cmd.Context(), m, nil)
	if err == nil {
		_ = json.Unmarshal(result, &r) // after an error there is nothing to complete
	}
	return r
}
