package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(c console) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what it was built from",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			_, err := fmt.Fprintln(c.out, versionText(info))
			return err
		},
	}
}

// versionText describes a build, such as "iotoll v1.0.0 (1a2b3c4d5e6f,
// modified) go1.26.8 linux/amd64".
func versionText(info *debug.BuildInfo) string {
	version, revision, modified := "(unknown)", "", ""
	if info != nil {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = ", modified"
			}
		}
	}
	if revision != "" {
		version += " (" + revision + modified + ")"
	}
	return fmt.Sprintf("iotoll %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
