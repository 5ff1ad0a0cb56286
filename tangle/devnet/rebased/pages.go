package rebased

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// cursor is what clients get as an opaque text: JSON in base64, with names as
// the service has them. c is the checkpoint at which the page was viewed, and
// pins what further pages show.
type cursor struct {
	C uint64 `json:"c"`
	T *int   `json:"t,omitempty"` // sequence number of a transaction
	I any    `json:"i,omitempty"` // index in a nested list; false for transactions (not from a scan)
	S *int64 `json:"s,omitempty"` // checkpoint
	O string `json:"o,omitempty"` // object
}

func (c cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // it holds numbers and texts
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// page is which part of a list is asked for.
type page struct {
	limit         int
	back          bool // from the end
	after, before *cursor
}

// pageOf reads the arguments of a connection (types/cursor.rs).
func pageOf(args arguments) (p page, err error) {
	first, isFirst, err := args.number("first")
	if err != nil {
		return p, err
	}
	last, isLast, err := args.number("last")
	if err != nil {
		return p, err
	}
	switch p.limit = defaultPage; {
	case isFirst && isLast:
		return p, problemOf(badUserInput, "'first' and 'last' must not be used together")
	case isFirst:
		p.limit = int(first)
	case isLast:
		p.limit, p.back = int(last), true
	}
	if p.limit > maxPage {
		return p, problemOf(badUserInput, "Connection's page size of %d exceeds max of %d", p.limit, maxPage)
	}
	for name, at := range map[string]**cursor{"after": &p.after, "before": &p.before} {
		text := args.text(name)
		if text == "" {
			continue
		}
		c := new(cursor)
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil || json.Unmarshal(b, c) != nil {
			return p, problemOf("", "Failed to parse \"String\": invalid cursor %.60q", text)
		}
		*at = c
	}
	return p, nil
}

// viewed returns the checkpoint at which the page is to be viewed: the cursors',
// or else the present one.
func (p page) viewed(tip int64) (int64, error) {
	switch {
	case p.after != nil && p.before != nil && p.after.C != p.before.C:
		return 0, problemOf(badUserInput, "The provided cursors are taken from different checkpoints and cannot be used together in the same query.")
	case p.after != nil:
		return int64(p.after.C), nil
	case p.before != nil:
		return int64(p.before.C), nil
	}
	return tip, nil
}

// connection is a page of a list.
type connection struct {
	typ        string // of the elements
	prev, next bool
	nodes      []node
	cursors    []string
}

func (c *connection) typeName() string { return c.typ + "Connection" }

func (c *connection) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "pageInfo":
		return pageInfo{c}, nil
	case "nodes":
		return list(c.nodes), nil
	case "edges":
		all := []any{}
		for i, n := range c.nodes {
			all = append(all, edge{c.typ + "Edge", c.cursors[i], n})
		}
		return all, nil
	}
	return unknown(c, name)
}

type edge struct {
	typ    string
	cursor string
	n      node
}

func (e edge) typeName() string { return e.typ }

func (e edge) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "cursor":
		return e.cursor, nil
	case "node":
		return e.n, nil
	}
	return unknown(e, name)
}

type pageInfo struct{ c *connection }

func (pageInfo) typeName() string { return "PageInfo" }

func (p pageInfo) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "hasPreviousPage":
		return p.c.prev, nil
	case "hasNextPage":
		return p.c.next, nil
	case "startCursor":
		if len(p.c.cursors) > 0 {
			return p.c.cursors[0], nil
		}
		return nil, nil
	case "endCursor":
		if n := len(p.c.cursors); n > 0 {
			return p.c.cursors[n-1], nil
		}
		return nil, nil
	}
	return unknown(p, name)
}

func list[T node](all []T) []any {
	out := make([]any, len(all))
	for i, n := range all {
		out[i] = n
	}
	return out
}

func unknown(n node, name string) (any, error) {
	return nil, fmt.Errorf("no resolver for %s.%s", n.typeName(), name)
}

// indexed pages through a list that is part of something else, by index.
func (q *query) indexed(typ string, args arguments, total int, element func(i int) node) (any, error) {
	p, err := pageOf(args)
	if err != nil {
		return nil, err
	}
	view, err := p.viewed(q.tip)
	if err != nil {
		return nil, err
	}
	at := func(c *cursor) int {
		f, _ := c.I.(float64)
		return int(f)
	}
	lo, hi := 0, total
	if p.after != nil {
		lo = at(p.after) + 1
	}
	if p.before != nil {
		hi = min(at(p.before), total)
	}
	c := &connection{typ: typ}
	if hi <= lo {
		return c, nil
	}
	if hi-lo > p.limit {
		if p.back {
			lo = hi - p.limit
		} else {
			hi = lo + p.limit
		}
	}
	c.prev, c.next = lo > 0, hi < total
	for i := lo; i < hi; i++ {
		c.nodes = append(c.nodes, element(i))
		c.cursors = append(c.cursors, cursor{C: uint64(view), I: i}.String())
	}
	return c, nil
}

// cut takes a page out of rows, which include those at the cursors if they exist
// (Page::paginate_results of types/cursor.rs). A page whose cursor's row does not
// exist is empty. The functions report whether a row is the one at a cursor.
func cut[T any](p page, rows []T, isAfter, isBefore func(T) bool) (prev, next bool, out []T) {
	if p.limit == 0 || len(rows) == 0 {
		return false, false, nil
	}
	if n := p.limit + 2; len(rows) > n {
		if p.back {
			rows = rows[len(rows)-n:]
		} else {
			rows = rows[:n]
		}
	}
	first := p.after != nil && isAfter(rows[0])
	last := p.before != nil && isBefore(rows[len(rows)-1])
	var prefix, suffix int
	if p.back {
		if p.before != nil && !last {
			return false, false, nil
		}
		suffix = one(last)
		prefix = one(first)
		prefix += max(0, len(rows)-(p.limit+prefix+suffix))
	} else {
		if p.after != nil && !first {
			return false, false, nil
		}
		prefix = one(first)
		suffix = one(last)
		suffix += max(0, len(rows)-(p.limit+prefix+suffix))
	}
	if prefix+suffix >= len(rows) {
		return false, false, nil
	}
	return prefix > 0, suffix > 0, rows[prefix : len(rows)-suffix]
}

// one returns 1 for true.
func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// address reads an address; short forms are padded. ok is false if it is absent.
func (a arguments) address(name string) (addr txn.Address, ok bool, err error) {
	if !a.has(name) {
		return addr, false, nil
	}
	addr, err = parseAddress(a.text(name))
	if err != nil {
		return addr, false, problemOf("", "Failed to parse \"IotaAddress\": %v", err)
	}
	return addr, true, nil
}

// parseAddress reads an address or object ID, short or long.
func parseAddress(text string) (txn.Address, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok || digits == "" || len(digits) > 64 {
		return txn.Address{}, fmt.Errorf("%.80q: want 0x and up to 64 hexadecimal digits", text)
	}
	c, err := txn.ParseCoinType("0x" + digits + "::a::a")
	return c.Address, err
}

// transactions pages through transactions in the ledger's order.
func (q *query) transactions(args, filter arguments) (any, error) {
	empty := &connection{typ: "TransactionBlock"}
	p, err := pageOf(args)
	if err != nil {
		return nil, err
	}
	if err := checkFilter(args, filter); err != nil {
		return nil, err
	}
	if ids, ok := filter["transactionIds"].([]any); p.limit == 0 || ok && len(ids) == 0 {
		return empty, nil
	}
	view, err := p.viewed(q.tip)
	if err != nil {
		return nil, err
	}
	lo, hi, ok, err := q.window(p, filter, view)
	if err != nil || !ok {
		return empty, err
	}
	// The rows at the cursors are read as well, to see whether they exist.
	if p.after != nil {
		if p.after.T == nil || hi <= *p.after.T+1 {
			return empty, nil
		}
		lo = max(lo, *p.after.T)
	}
	if p.before != nil {
		if p.before.T == nil || *p.before.T <= lo {
			return empty, nil
		}
		hi = min(hi, *p.before.T+1)
	}
	matches, candidates, err := q.match(filter)
	if err != nil {
		return nil, err
	}
	prev, next, rows := cut(p, q.rows(p, lo, hi, candidates, matches),
		func(seq int) bool { return seq == *p.after.T },
		func(seq int) bool { return seq == *p.before.T })
	if q.n.repeat && len(rows) > 0 {
		if p.before != nil {
			rows = append(rows[:len(rows):len(rows)], *p.before.T)
		} else if p.after != nil {
			rows = append([]int{*p.after.T}, rows...)
		}
	}
	c := &connection{typ: "TransactionBlock", prev: prev, next: next}
	for _, seq := range rows {
		c.nodes = append(c.nodes, txNode{x: q.n.chain.ordered[seq]})
		c.cursors = append(c.cursors, cursor{C: uint64(view), T: &seq, I: false}.String())
	}
	return c, nil
}

// checkFilter returns an error if a filter is one that the service refuses.
func checkFilter(args, filter arguments) error {
	scan, scanned, err := args.number("scanLimit")
	if err != nil {
		return err
	}
	if scan > maxScan {
		return problemOf(badUserInput, "Scan limit exceeds max limit of '%d'", maxScan)
	}
	lookups := 0
	for _, name := range []string{"recvAddress", "inputObject", "changedObject", "kind"} {
		if filter.has(name) {
			lookups++
		}
	}
	if lookups > 1 && !scanned {
		return problemOf(badUserInput, "A scan limit must be specified for the given filter combination")
	}
	if ids, _ := filter["transactionIds"].([]any); len(ids) > maxIDs {
		return problemOf(badUserInput, "Transaction IDs exceed max limit of '%d'", maxIDs)
	}
	return nil
}

// window returns the sequence numbers, from lo to below hi, that a page may be
// taken from. ok is false if the page is empty.
func (q *query) window(p page, filter arguments, view int64) (lo, hi int, ok bool, err error) {
	alone := filter.has("affectedAddress")
	for name := range filter {
		alone = alone && (name == "affectedAddress" || !filter.has(name))
	}
	oldest := q.n.oldest()
	if !alone {
		if lo, hi, ok, err = q.bounds(filter, view); err != nil || !ok {
			return 0, 0, false, err
		}
		if q.n.fallback && filter.has("transactionIds") {
			oldest = 0
		}
		return max(lo, oldest), hi, true, nil // rows before are missing without a word
	}
	// affectedAddress alone says what is missing, or has an archive
	// (types/transaction_block, prune/transaction_blocks_by_affected_address.snap).
	if q.n.fallback {
		oldest = 0
	} else if err := q.pruned(p, filter.text("affectedAddress"), view, oldest); err != nil {
		return 0, 0, false, err
	}
	if view >= int64(len(q.n.chain.checkpoints)) {
		return 0, 0, false, nil
	}
	return oldest, q.n.chain.checkpoints[view].total, true, nil
}

// pruned returns an error if a page of what affected an address may lack what is
// pruned. A page from the newest end just ends there.
func (q *query) pruned(p page, address string, view int64, oldest int) error {
	switch {
	case view < q.n.pruned:
		return problemOf(dataPruned, "Requested data has been pruned: checkpoint %d has been pruned", view)
	case q.n.pruned > 0 && !p.back && p.after == nil:
		return problemOf(dataPruned, "Requested data has been pruned: DB may be missing earliest history for address %s due to pruning", address)
	}
	for _, c := range []*cursor{p.after, p.before} {
		if c != nil && c.T != nil && *c.T < oldest {
			return problemOf(dataPruned, "Requested data has been pruned: transaction %d has been pruned (min available: %d)", *c.T, oldest)
		}
	}
	return nil
}

// bounds turns checkpoint bounds into sequence numbers by reading the rows of
// those checkpoints. ok is false if a row is missing, because it is pruned or
// above the tip: then the page is empty, without an error (TxBounds::query of
// types/transaction_block/tx_lookups.rs).
func (q *query) bounds(filter arguments, view int64) (lo, hi int, ok bool, err error) {
	after, isAfter, err := filter.number("afterCheckpoint")
	if err != nil {
		return 0, 0, false, err
	}
	at, isAt, err := filter.number("atCheckpoint")
	if err != nil {
		return 0, 0, false, err
	}
	before, isBefore, err := filter.number("beforeCheckpoint")
	if err != nil {
		return 0, 0, false, err
	}
	first, last := int64(0), view
	if isAfter {
		first = after + 1
	}
	if isAt {
		first, last = max(first, at), min(last, at)
	}
	if isBefore {
		last = min(last, before-1)
	}
	if last < first {
		return 0, 0, false, nil
	}
	row := func(number int64) *checkpoint {
		if number < q.n.pruned && !(isAt && q.n.fallback) || number >= int64(len(q.n.chain.checkpoints)) {
			return nil
		}
		return q.n.chain.checkpoints[number]
	}
	end := row(last)
	if end == nil {
		return 0, 0, false, nil
	}
	if first == 0 {
		return 0, end.total, true, nil
	}
	start := row(first - 1)
	if start == nil {
		return 0, 0, false, nil
	}
	return start.total, end.total, start.total < end.total, nil
}

// match returns the test of a filter, and the sequence numbers to try; nil
// stands for all.
func (q *query) match(filter arguments) (matches func(*transaction) bool, candidates []int, err error) {
	var tests []func(*transaction) bool
	all := true
	narrow := func(seqs []int) {
		if all || len(seqs) < len(candidates) {
			candidates, all = seqs, false
		}
	}
	for name, in := range map[string]map[txn.Address][]int{
		"sentAddress": q.n.chain.sent, "recvAddress": q.n.chain.received, "affectedAddress": q.n.chain.affected,
	} {
		a, ok, err := filter.address(name)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			seqs := in[a]
			narrow(seqs)
			tests = append(tests, func(x *transaction) bool {
				_, found := slices.BinarySearch(seqs, x.seq)
				return found
			})
		}
	}
	for name, objects := range map[string]func(*transaction) [][]*object{
		"inputObject":   func(x *transaction) [][]*object { return [][]*object{x.inputs} },
		"changedObject": func(x *transaction) [][]*object { return [][]*object{x.created, x.mutated} },
	} {
		id, ok, err := filter.address(name)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			tests = append(tests, func(x *transaction) bool {
				for _, list := range objects(x) {
					if slices.ContainsFunc(list, func(o *object) bool { return o.id == id }) {
						return true
					}
				}
				return false
			})
		}
	}
	if kind := filter.text("kind"); kind != "" {
		tests = append(tests, func(x *transaction) bool {
			switch kind {
			case "PROGRAMMABLE_TX":
				return x.kind == programmable
			case "SYSTEM_TX", "GENESIS":
				return x.kind == genesis
			}
			return false
		})
	}
	if ids, ok := filter["transactionIds"].([]any); ok {
		seqs := []int{}
		for _, id := range ids {
			text, _ := id.(string)
			d, err := txn.ParseDigest(text)
			if err != nil {
				return nil, nil, problemOf(badUserInput, "Invalid digest: %v", err)
			}
			if x := q.n.chain.byDigest[d]; x != nil && x.seq >= 0 {
				seqs = append(seqs, x.seq)
			}
		}
		slices.Sort(seqs)
		seqs = slices.Compact(seqs)
		narrow(seqs)
		tests = append(tests, func(x *transaction) bool {
			_, found := slices.BinarySearch(seqs, x.seq)
			return found
		})
	}
	if !all && candidates == nil {
		candidates = []int{}
	}
	return func(x *transaction) bool {
		return !slices.ContainsFunc(tests, func(test func(*transaction) bool) bool { return !test(x) })
	}, candidates, nil
}

// rows returns the sequence numbers from lo to below hi that match: as many as a
// page and the rows around it need, from the end that it is taken from.
func (q *query) rows(p page, lo, hi int, candidates []int, matches func(*transaction) bool) []int {
	at := func(i int) int { return i }
	from, to := lo, hi
	if candidates != nil {
		at = func(i int) int { return candidates[i] }
		from, to = sort.SearchInts(candidates, lo), sort.SearchInts(candidates, hi)
	}
	var rows []int
	for i := from; i < to && len(rows) < p.limit+2; i++ {
		j := i
		if p.back {
			j = to - 1 - (i - from)
		}
		if seq := at(j); matches(q.n.chain.ordered[seq]) {
			rows = append(rows, seq)
		}
	}
	if p.back {
		slices.Reverse(rows)
	}
	return rows
}

// objects pages through objects, which are ordered by ID, as they were at the
// cursor's checkpoint.
func (q *query) objects(typ string, args arguments, all func(view int64) []*object, wrap func(*object) node) (any, error) {
	p, err := pageOf(args)
	if err != nil {
		return nil, err
	}
	view, err := p.viewed(q.tip)
	if err != nil {
		return nil, err
	}
	if view > q.tip || view <= q.tip-consistentCheckpoints {
		return nil, problemOf(badUserInput, "Requested data is outside the available range")
	}
	rows := all(view)
	compare := func(c *cursor) func(*object, struct{}) int {
		return func(o *object, _ struct{}) int { return strings.Compare(o.id.String(), c.O) }
	}
	if p.after != nil {
		i, _ := slices.BinarySearchFunc(rows, struct{}{}, compare(p.after))
		rows = rows[i:]
	}
	if p.before != nil {
		i, found := slices.BinarySearchFunc(rows, struct{}{}, compare(p.before))
		rows = rows[:i+one(found)]
	}
	prev, next, rows := cut(p, rows,
		func(o *object) bool { return o.id.String() == p.after.O },
		func(o *object) bool { return o.id.String() == p.before.O })
	c := &connection{typ: typ, prev: prev, next: next}
	for _, o := range rows {
		c.nodes = append(c.nodes, wrap(o))
		c.cursors = append(c.cursors, cursor{C: uint64(view), O: o.id.String()}.String())
	}
	return c, nil
}

// checkpoints pages through checkpoints (prune/checkpoint_pagination.snap).
func (q *query) checkpoints(args arguments) (any, error) {
	p, err := pageOf(args)
	if err != nil {
		return nil, err
	}
	view, err := p.viewed(q.tip)
	if err != nil {
		return nil, err
	}
	lo, hi := q.n.pruned, min(view, q.n.chain.tip().number)
	for name, c := range map[string]*cursor{"after": p.after, "before": p.before} {
		switch {
		case c == nil:
		case c.S == nil || *c.S > hi:
			return nil, problemOf(badUserInput, "`%s` cursor is above the available range %d..=%d", name, lo, hi)
		case *c.S < lo:
			return nil, problemOf(dataPruned, "Requested data has been pruned: `%s` cursor (seq %d) is below the available range %d..=%d", name, *c.S, lo, hi)
		}
	}
	if p.after != nil {
		lo = *p.after.S
	}
	if p.before != nil {
		hi = *p.before.S
	}
	var rows []int64
	for i := lo; i <= hi && len(rows) < p.limit+2; i++ {
		if p.back {
			rows = append(rows, hi-(i-lo))
		} else {
			rows = append(rows, i)
		}
	}
	if p.back {
		slices.Reverse(rows)
	}
	prev, next, rows := cut(p, rows,
		func(s int64) bool { return s == *p.after.S },
		func(s int64) bool { return s == *p.before.S })
	c := &connection{typ: "Checkpoint", prev: prev, next: next}
	for _, s := range rows {
		c.nodes = append(c.nodes, checkpointNode{q.n.chain.checkpoints[s]})
		c.cursors = append(c.cursors, cursor{C: uint64(view), S: &s}.String())
	}
	return c, nil
}
