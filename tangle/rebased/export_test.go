package rebased

// Limit makes a ledger read fewer pages of an address with one call, and keep
// fewer payments of one walk.
func (l *Ledger) Limit(pages, keep int) { l.pages, l.keep = pages, keep }
