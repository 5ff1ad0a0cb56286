package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// encoder appends values in BCS (https://github.com/diem/bcs): integers are
// little-endian, lengths and variants are ULEB128 numbers below 2³².
type encoder []byte

func (e *encoder) raw(b []byte) { *e = append(*e, b...) }
func (e *encoder) u16(v uint16) { *e = binary.LittleEndian.AppendUint16(*e, v) }
func (e *encoder) u64(v uint64) { *e = binary.LittleEndian.AppendUint64(*e, v) }
func (e *encoder) uleb(v int)   { *e = binary.AppendUvarint(*e, uint64(v)) }
func (e *encoder) bytes(b []byte) {
	e.uleb(len(b))
	e.raw(b)
}

func (e *encoder) bool(v bool) {
	if v {
		e.raw([]byte{1})
	} else {
		e.raw([]byte{0})
	}
}

// errShort says that the input ends inside a value.
var errShort = errors.New("unexpected end of input")

// decoder reads values in BCS and refuses whatever is not the one encoding of a
// value. After an error it returns zero values; err keeps the first one.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// raw returns the next n bytes, as a part of the input.
func (d *decoder) raw(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.rest) {
		d.fail(errShort)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) u16() uint16 {
	if b := d.raw(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.raw(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) bool() bool {
	b := d.raw(1)
	if b != nil && b[0] > 1 {
		d.fail(fmt.Errorf("boolean of value %d", b[0]))
	}
	return b != nil && b[0] == 1
}

// uleb returns a number below 2³².
func (d *decoder) uleb() int {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	switch {
	case n == 0:
		d.fail(errShort)
	case n < 0 || v > math.MaxUint32:
		d.fail(errors.New("ULEB128 number of 2³² or more"))
	case n != max(1, (bits.Len64(v)+6)/7):
		d.fail(errors.New("ULEB128 number with leading zeros"))
	default:
		d.rest = d.rest[n:]
		return int(v)
	}
	return 0
}

// length returns the length of a vector. Elements have at least one byte each,
// so that a length which the rest cannot hold is refused before any allocation.
func (d *decoder) length() int {
	n := d.uleb()
	if n > len(d.rest) {
		d.fail(errShort)
		return 0
	}
	return n
}

func (d *decoder) bytes() []byte { return d.raw(d.length()) }

// vector reads a vector of values.
func vector[T any](d *decoder, element func() T) []T {
	n := d.length()
	var all []T
	for range n {
		v := element()
		if d.err != nil {
			return nil
		}
		all = append(all, v)
	}
	return all
}
