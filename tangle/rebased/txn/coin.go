package txn

import (
	"fmt"
	"strings"
)

// CoinType is the Move type of a coin. Two coin types are the same if they are
// equal, however a node spelled them.
type CoinType struct {
	Address      Address // of the package
	Module, Name string
	Params       string // type parameters as written, with their brackets; compared as text
}

// IOTA is the type of the network's own coin, 0x2::iota::IOTA.
var IOTA = CoinType{Address: Address{31: 2}, Module: "iota", Name: "IOTA"}

// maxCoinType is the longest text, in bytes, that ParseCoinType reads.
const maxCoinType = 1024

// ParseCoinType reads a type such as 0x2::iota::IOTA. The address may be
// shortened or not, in either case; module and name are case sensitive.
func ParseCoinType(text string) (CoinType, error) {
	fail := func() (CoinType, error) {
		return CoinType{}, fmt.Errorf("coin type %.100q: want address::module::name", text)
	}
	if len(text) > maxCoinType {
		return fail()
	}
	head, params := text, ""
	if i := strings.IndexByte(text, '<'); i >= 0 {
		head, params = text[:i], text[i:]
		if !strings.HasSuffix(params, ">") {
			return fail()
		}
	}
	parts := strings.Split(head, "::")
	if len(parts) != 3 || !identifier(parts[1]) || !identifier(parts[2]) {
		return fail()
	}
	address, ok := parseHex(parts[0])
	if !ok {
		return fail()
	}
	c := CoinType{Address: address, Module: parts[1], Name: parts[2], Params: params}
	return c, nil
}

// String returns the type with its full address.
func (c CoinType) String() string {
	return c.Address.String() + "::" + c.Module + "::" + c.Name + c.Params
}

// identifier reports whether s is a name in Move.
func identifier(s string) bool {
	for i, r := range s {
		switch {
		case r == '_', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
		case r >= '0' && r <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
