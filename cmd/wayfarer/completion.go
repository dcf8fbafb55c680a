package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/ike"
)

type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// completeProfileFlags offers the values of flags that have a known set of them.
func completeProfileFlags(cmd *cobra.Command) {
	none := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveNoFileComp)
	for flag, complete := range map[string]completer{
		"auth":       cobra.FixedCompletions(app.AuthMethods(), cobra.ShellCompDirectiveNoFileComp),
		"exchange":   cobra.FixedCompletions(exchanges, cobra.ShellCompDirectiveNoFileComp),
		"allow-weak": completeList(weaknesses),
		"ike":        completeList(func() []string { return names(ike.DefaultIKE(ike.WeakAll)) }),
		"esp":        completeList(func() []string { return names(ike.DefaultESP(ike.WeakAll)) }),
		"set":        completeKey,
		"gateway":    none,
		"login":      none,
		"pin":        none,
		"remote-id":  none,
		"local-id":   none,
		"group-id":   none,
	} {
		completeFlag(cmd, flag, complete)
	}
}

func completeFlag(cmd *cobra.Command, flag string, complete completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag
	}
}

func names[T fmt.Stringer](list []T) []string {
	var out []string
	for _, item := range list {
		out = append(out, item.String())
	}
	return out
}

// completeList completes the last element of a list with what is not in it yet.
func completeList(values func() []string) completer {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		given := splitList(before)
		var out []string
		for _, value := range values() {
			if !slices.Contains(given, value) && strings.HasPrefix(before+value, typed) {
				out = append(out, before+value)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// completeKey completes the key of --set KEY=VALUE.
func completeKey(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for key := range profileKeys {
		if strings.HasPrefix(key, typed) {
			out = append(out, key+"=")
		}
	}
	slices.Sort(out)
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeProfiles offers the names of saved profiles for the first argument.
func (e *env) completeProfiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	profiles, err := e.profiles()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	saved, err := profiles.Names()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return saved, cobra.ShellCompDirectiveNoFileComp
}

// completeConnections offers what name of each connection is for the first
// argument.
func (e *env) completeConnections(name func(*app.Connection) string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		status, err := e.service(e.socket).Status(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for i := range status.Connections {
			if given := name(&status.Connections[i]); given != "" {
				out = append(out, given)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
