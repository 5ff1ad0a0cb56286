package mongostore

import (
	"context"

	"github.com/iotoll/iotoll/tangle"
)

// UserState implements [tangle.Users].
func (s *Store) UserState(ctx context.Context, name string) (tangle.UserState, error) {
	if name == "" || name != textOf(name) {
		return tangle.UserUnknown, nil // and some servers would make it an error
	}
	raw, err := s.findUser(ctx, name)
	if err != nil {
		return "", err
	}
	if raw == nil {
		return tangle.UserUnknown, nil
	}
	u, err := parseUser(raw)
	switch {
	case err != nil:
		return tangle.UserUnusable, nil
	case u.Disabled:
		return tangle.UserDisabled, nil
	}
	return tangle.UserReady, nil
}
