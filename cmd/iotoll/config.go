package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfig(c console, load loader) *cobra.Command {
	return group("config", "Check the configuration",
		&cobra.Command{
			Use:   "check",
			Short: "Read the configuration and say what is wrong with it",
			Long: `check reads the configuration and the files that it names, and prints every
fault with what would be right. It connects to nothing: only "iotoll doctor" and
"iotoll serve" can tell that a deposit address which was watched before is missing.`,
			Args: exactly(),
			RunE: func(*cobra.Command, []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				if err := cfg.CheckFiles(); err != nil {
					return err
				}
				for _, note := range cfg.Notes() {
					fmt.Fprintln(c.out, "note:", note)
				}
				_, err = fmt.Fprintf(c.out, "ok: %s, %s, %s\nnot asked: store, ledger, broker and plugs; \"iotoll doctor\" asks them\n", count(len(cfg.Offers), "offer", "offers"), count(len(cfg.Plugs), "plug", "plugs"), count(len(cfg.Public), "public filter", "public filters"))
				return err
			},
		})
}
