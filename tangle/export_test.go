package tangle

import "errors"

// IsDecided reports whether an act was refused since another came first.
func IsDecided(err error) bool { return errors.Is(err, errDecided) }
