package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/cmd/internal/hint"
)

func newStoreCommand(c console, load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Back up and restore the embedded store",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the embedded store to a new directory, also while serve runs",
		Long: `backup writes a consistent copy of the embedded store to DIR, which must not exist.
serve may run meanwhile. The copy holds password hashes: keep it as safe as the
store.`,
		Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			directory, err := embeddedDirectory(load, "mongodump")
			if err != nil {
				return err
			}
			if err := embedded.BackUp(cmd.Context(), directory, args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "backed up %s to %s\n", directory, args[0])
			return err
		},
	}, &cobra.Command{
		Use:   "restore DIR",
		Short: "Make the embedded store from a copy, while serve does not run",
		Long: `restore makes the embedded store from the copy in DIR that "iotoll store backup"
wrote. serve must not run, and the store's directory must be empty or not exist:
move a store that is still there away first.`,
		Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			directory, err := embeddedDirectory(load, "mongorestore")
			if err != nil {
				return err
			}
			if err := embedded.Restore(cmd.Context(), args[0], directory); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "restored %s from %s\n", directory, args[0])
			return err
		},
	})
	return cmd
}

// embeddedDirectory returns where the embedded store is. other is the tool for a
// MongoDB server.
func embeddedDirectory(load loader, other string) (string, error) {
	cfg, err := load()
	if err != nil {
		return "", err
	}
	if cfg.Store.URIFile != "" {
		return "", hint.Add(errors.New("store.uri_file names a server: only the embedded store can be copied"), "use %s", other)
	}
	return cfg.Store.Embedded.Directory, nil
}
