package rebased

import (
	"bytes"
	_ "embed" // the schema
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

//go:embed schema.graphql
var schemaText string

// schemas returns the schema, and the one of software without affectedAddress.
var schemas = sync.OnceValues(func() (now, old *ast.Schema) {
	now = gqlparser.MustLoadSchema(&ast.Source{Name: "schema.graphql", Input: schemaText})
	without := strings.NewReplacer("  affectedAddress: IotaAddress\n", "", "  AFFECTED\n", "").Replace(schemaText)
	old = gqlparser.MustLoadSchema(&ast.Source{Name: "schema.graphql", Input: without})
	return now, old
})

// rpcVersion is what the services say in the header x-iota-rpc-version.
const rpcVersion = "1.35.2"

// Codes of errors (crates/iota-graphql-rpc/src/error.rs).
const (
	badRequest   = "BAD_REQUEST"
	badUserInput = "BAD_USER_INPUT"
	internal     = "INTERNAL_SERVER_ERROR"
	timeout      = "REQUEST_TIMEOUT"
	dataPruned   = "DATA_PRUNED"
)

// problem is an error in an answer.
type problem struct {
	Message    string              `json:"message"`
	Locations  []gqlerror.Location `json:"locations,omitempty"`
	Path       []any               `json:"path,omitempty"`
	Extensions map[string]any      `json:"extensions,omitempty"`
}

func (p *problem) Error() string { return p.Message }

func problemOf(code, format string, args ...any) *problem {
	p := &problem{Message: fmt.Sprintf(format, args...)}
	if code != "" {
		p.Extensions = map[string]any{"code": code}
	}
	return p
}

// internalProblem returns an error in the words of the service.
func internalProblem(format string, args ...any) *problem {
	return problemOf(internal, "Internal error occurred while processing request: "+format, args...)
}

// graphqlAnswer is the body of an answer.
type graphqlAnswer struct {
	Data   any        `json:"data"`
	Errors []*problem `json:"errors,omitempty"`
}

// node is a value of one of the schema's object types.
type node interface {
	typeName() string
	// field returns the value of a field: nil, a string, bool, int, int64 or
	// uint64, a node, a []any of those, or json.RawMessage.
	field(q *query, name string, args arguments) (any, error)
}

// query is one request under execution.
type query struct {
	n      *Node
	tip    int64 // the checkpoint at which everything is viewed
	vars   map[string]any
	errors []*problem
	done   map[string]any // results of mutations, by response name
}

// serveGraphQL answers a request.
func (n *Node) serveGraphQL(w http.ResponseWriter, r *http.Request, body []byte) {
	var request struct {
		Query         string         `json:"query"`
		OperationName string         `json:"operationName"`
		Variables     map[string]any `json:"variables"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&request); err != nil {
		n.answer(w, r, "", func() any { return &graphqlAnswer{Errors: []*problem{problemOf(badRequest, "Invalid JSON: %v", err)}} })
		return
	}
	op, vars, answer := n.prepare(request.Query, request.OperationName, request.Variables, len(body))
	if answer != nil {
		n.answer(w, r, "", func() any { return answer })
		return
	}
	var names []string
	for _, s := range op.SelectionSet {
		if f, ok := s.(*ast.Field); ok {
			names = append(names, f.Name)
		}
	}
	n.answer(w, r, strings.Join(names, " "), func() any { return n.run(op, vars) })
}

// prepare parses and checks a document. It returns the operation to run, or an
// answer that says what is wrong.
func (n *Node) prepare(text, name string, variables map[string]any, size int) (*ast.OperationDefinition, map[string]any, *graphqlAnswer) {
	fail := func(p *problem) (*ast.OperationDefinition, map[string]any, *graphqlAnswer) {
		return nil, nil, &graphqlAnswer{Errors: []*problem{p}}
	}
	if size > maxQueryPayload+maxTxPayload {
		return fail(payloadProblem(fmt.Sprintf("Overall request too large: %d bytes", size)))
	}
	n.chain.mu.RLock()
	schema, oldSchema := schemas()
	if n.old {
		schema = oldSchema
	}
	n.chain.mu.RUnlock()
	doc, problems := gqlparser.LoadQueryWithRules(schema, text, rules.NewDefaultRules())
	if len(problems) > 0 {
		answer := new(graphqlAnswer)
		for _, e := range problems {
			answer.Errors = append(answer.Errors, &problem{Message: inServiceWords(e.Message), Locations: e.Locations})
		}
		return nil, nil, answer
	}
	op := doc.Operations.ForName(name)
	if op == nil {
		return fail(problemOf("", "Unknown operation named %q", name))
	}
	vars, err := validator.VariableValues(schema, op, variables)
	if err != nil {
		return fail(problemOf("", "Invalid value for variable: %v", err))
	}
	if p := checkLimits(op, vars, size); p != nil {
		return fail(p)
	}
	return op, vars, nil
}

// inServiceWords turns the commonest messages of the validator into those of
// async-graphql, which the service is built with.
func inServiceWords(message string) string {
	message = unknownField.ReplaceAllString(message, `Unknown field "$1" on type "$2".`)
	return unknownInput.ReplaceAllString(message, `Invalid value for argument "filter", unknown field "$1" of type "$2"`)
}

var (
	unknownField = regexp.MustCompile(`^Cannot query field "(\w+)" on type "(\w+)"\.`)
	unknownInput = regexp.MustCompile(`^Field "(\w+)" is not defined by type "(\w+Filter)"\..*$`)
)

// run executes an operation. It returns nil if the connection shall be closed
// instead of an answer.
func (n *Node) run(op *ast.OperationDefinition, vars map[string]any) any {
	q := &query{n: n, vars: vars, done: make(map[string]any)}
	var root node = queryRoot{}
	if op.Operation == ast.Mutation {
		root = mutationRoot{}
		for _, f := range q.collect("Mutation", op.SelectionSet) {
			if f.Name == "__typename" {
				continue
			}
			result, err := q.mutate(f.Name, f.ArgumentMap(vars))
			switch {
			case errors.Is(err, errLost):
				return nil
			case err != nil:
				q.done[f.Alias] = err
			default:
				q.done[f.Alias] = result
			}
		}
	}
	n.chain.mu.RLock()
	defer n.chain.mu.RUnlock()
	q.tip = n.seen()
	data, ok := q.object(root, op.SelectionSet, nil)
	answer := &graphqlAnswer{Errors: q.errors}
	if ok {
		answer.Data = data
	}
	return answer
}

// collect merges the fields of a selection that apply to an object type. Later
// selections of a field add to its selection set.
func (q *query) collect(typ string, set ast.SelectionSet) []*ast.Field {
	var all []*ast.Field
	at := make(map[string]int)
	var walk func(ast.SelectionSet)
	walk = func(set ast.SelectionSet) {
		for _, s := range set {
			switch s := s.(type) {
			case *ast.Field:
				if q.skipped(s.Directives) {
					continue
				}
				if i, ok := at[s.Alias]; ok {
					merged := *all[i]
					merged.SelectionSet = append(merged.SelectionSet[:len(merged.SelectionSet):len(merged.SelectionSet)], s.SelectionSet...)
					all[i] = &merged
					continue
				}
				at[s.Alias] = len(all)
				all = append(all, s)
			case *ast.InlineFragment:
				if !q.skipped(s.Directives) && applies(typ, s.TypeCondition) {
					walk(s.SelectionSet)
				}
			case *ast.FragmentSpread:
				if !q.skipped(s.Directives) && applies(typ, s.Definition.TypeCondition) {
					walk(s.Definition.SelectionSet)
				}
			}
		}
	}
	walk(set)
	return all
}

// skipped reports whether @skip or @include leave a selection out.
func (q *query) skipped(directives ast.DirectiveList) bool {
	for _, d := range directives {
		if on, _ := d.ArgumentMap(q.vars)["if"].(bool); d.Name == "skip" && on || d.Name == "include" && !on {
			return true
		}
	}
	return false
}

// applies reports whether a fragment on a type is one for objects of typ.
func applies(typ, condition string) bool {
	if condition == "" || condition == typ {
		return true
	}
	schema, _ := schemas()
	for _, possible := range schema.GetPossibleTypes(schema.Types[condition]) {
		if possible.Name == typ {
			return true
		}
	}
	return false
}

// member is one entry of an object in an answer.
type member struct {
	key   string
	value any
}

// members is an object in an answer, in the order of the request.
type members []member

// MarshalJSON implements json.Marshaler.
func (m members) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, e := range m {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(strconv.AppendQuote(out, e.key), ':')
		v, err := json.Marshal(e.value)
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return append(out, '}'), nil
}

// object returns the fields of a node that a selection asks for. ok is false if
// one is null that must not be, so that the object itself is null.
func (q *query) object(n node, set ast.SelectionSet, path []any) (m members, ok bool) {
	ok = true
	for _, f := range q.collect(n.typeName(), set) {
		at := append(path[:len(path):len(path)], f.Alias)
		if f.Name == "__typename" {
			m = append(m, member{f.Alias, n.typeName()})
			continue
		}
		value, fine := q.resolve(n, f, at)
		if !fine {
			ok = false
		}
		m = append(m, member{f.Alias, value})
	}
	return m, ok
}

// resolve returns the value of a field as it stands in the answer.
func (q *query) resolve(n node, f *ast.Field, path []any) (value any, ok bool) {
	var v any
	var err error
	if group := featureOf(n.typeName(), f.Name); group != "" && q.n.disabled[group] {
		// The real service names neither path nor code (feature_gate.rs).
		q.errors = append(q.errors, problemOf("", "Cannot query field \"%s\" on type \"%s\". Feature %q is disabled.", f.Name, n.typeName(), group))
		return nil, !f.Definition.Type.NonNull
	}
	if _, root := n.(mutationRoot); root {
		v = q.done[f.Alias]
		if failed, is := v.(error); is {
			v, err = nil, failed
		}
	} else {
		v, err = n.field(q, f.Name, arguments(f.ArgumentMap(q.vars)))
	}
	if err != nil {
		var p *problem
		if !errors.As(err, &p) {
			p = internalProblem("%v", err)
		}
		q.report(p, f, path)
		return nil, !f.Definition.Type.NonNull
	}
	return q.complete(f.Definition.Type, f, v, path)
}

func (q *query) report(p *problem, f *ast.Field, path []any) {
	copied := *p
	copied.Path = path
	copied.Locations = []gqlerror.Location{{Line: f.Position.Line, Column: f.Position.Column}}
	q.errors = append(q.errors, &copied)
}

// complete brings a value into the form of its type.
func (q *query) complete(t *ast.Type, f *ast.Field, v any, path []any) (value any, ok bool) {
	if v == nil {
		if t.NonNull {
			q.report(problemOf(internal, "internal: non-null types require a return value"), f, path)
		}
		return nil, !t.NonNull
	}
	if t.Elem != nil {
		list := v.([]any)
		out := make([]any, len(list))
		for i, e := range list {
			if out[i], ok = q.complete(t.Elem, f, e, append(path[:len(path):len(path)], i)); !ok {
				return nil, !t.NonNull
			}
		}
		return out, true
	}
	if n, is := v.(node); is {
		m, ok := q.object(n, f.SelectionSet, path)
		if !ok {
			return nil, !t.NonNull
		}
		return m, true
	}
	return v, true
}

// arguments are a field's, or an input object's fields.
type arguments map[string]any

func (a arguments) has(name string) bool { return a[name] != nil }

func (a arguments) text(name string) string {
	s, _ := a[name].(string)
	return s
}

// number returns a UInt53 or Int; ok is false if it is absent.
func (a arguments) number(name string) (v int64, ok bool, err error) {
	bad := func() (int64, bool, error) {
		return 0, false, problemOf("", "Failed to parse \"UInt53\": %v is no number from 0 to 2^53", a[name])
	}
	switch n := a[name].(type) {
	case nil:
		return 0, false, nil
	case int64:
		v = n
	case json.Number:
		if v, err = n.Int64(); err != nil {
			return bad()
		}
	default:
		return bad()
	}
	if v < 0 || v >= 1<<53 {
		return bad()
	}
	return v, true, nil
}
