package tangle

import "context"

// UserState says whether a name may buy. The set is closed.
type UserState string

// The states of a name. Payments are credited to users that are Ready alone; for
// all others they are held until that changes.
const (
	UserUnknown  UserState = "unknown"  // no user bears the name
	UserUnusable UserState = "unusable" // its document cannot log in: unreadable, or two documents bear the name
	UserDisabled UserState = "disabled" // barred by the seller
	UserReady    UserState = "ready"    // it can log in
)

// Users tells who exists: the one answer for logins, payments and the CLI alike.
type Users interface {
	// UserState returns the state of a name, in whatever form its document was
	// written. Any text may be asked for. The cost does not grow with the number of
	// users.
	UserState(ctx context.Context, name string) (UserState, error)
}

// refusal says why a payment for a user is held; "" if it is not.
func (s UserState) refusal(name string) string {
	switch s {
	case UserReady:
		return ""
	case UserDisabled:
		return "user " + quote(name) + " is disabled"
	case UserUnusable:
		return "user " + quote(name) + " cannot log in: the user's document is not readable"
	}
	return "there is no user " + quote(name)
}
