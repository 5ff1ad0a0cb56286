package daemon

import "sync"

// news collects what changed in the store for those who keep something up to date
// with it. Adding never waits.
type news struct {
	wake chan struct{} // holds one: there is something

	mu    sync.Mutex
	users map[string]bool
	all   bool // every user may have changed
	held  bool // the held payments may have changed
}

func newNews() *news { return &news{wake: make(chan struct{}, 1), users: make(map[string]bool)} }

// user notes that something changed for a user.
func (n *news) user(name string) { n.add(func() { n.users[name] = true }) }

// everything notes that anything may have changed.
func (n *news) everything() { n.add(func() { n.all, n.held = true, true }) }

// holding notes that the held payments may have changed.
func (n *news) holding() { n.add(func() { n.held = true }) }

func (n *news) add(note func()) {
	n.mu.Lock()
	note()
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take returns what was noted since the last call.
func (n *news) take() (users map[string]bool, all, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	users, all, held = n.users, n.all, n.held
	n.users, n.all, n.held = make(map[string]bool), false, false
	return users, all, held
}
