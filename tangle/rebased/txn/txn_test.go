package txn

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// vectors are testdata/vectors.json, made by IOTA's TypeScript SDK.
type vectors struct {
	Keys []struct {
		Scheme, IotaPrivKey, PublicKeyHex, Address string
		Flag                                       byte
	}
	PersonalMessages []struct{ Scheme, MessageBase64, Signature, Address string }
	Transactions     []struct {
		Name, Sender, TxBytes, Signature, Digest string
	}
}

func load(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Keys) == 0 || len(v.PersonalMessages) == 0 || len(v.Transactions) != 7 {
		t.Fatal("vectors.json is not complete")
	}
	return v
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB) Key {
	t.Helper()
	k, err := ParseKey(load(t).Keys[0].IotaPrivKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func address(t testing.TB, text string) Address {
	t.Helper()
	a, err := ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestKeys(t *testing.T) {
	for _, v := range load(t).Keys {
		k, err := ParseKey(v.IotaPrivKey)
		if v.Scheme != "ED25519" {
			if err == nil || !strings.Contains(err.Error(), v.Scheme) {
				t.Errorf("%s: got %v, want an error that names the scheme", v.Scheme, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if k.Secret() != v.IotaPrivKey {
			t.Errorf("Secret: got another text than was read")
		}
		if got := hex.EncodeToString(k.public()); got != v.PublicKeyHex {
			t.Errorf("public key: got %s, want %s", got, v.PublicKeyHex)
		}
		if got := k.Address().String(); got != v.Address {
			t.Errorf("address: got %s, want %s", got, v.Address)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	good := load(t).Keys[0].IotaPrivKey
	for name, text := range map[string]string{
		"empty": "", "checksum": good[:len(good)-1] + "q", "cut": good[:40], "long": strings.Repeat("a", 1<<20),
		"prefix": "suiprivkey1qzhalf", "mixed case": "I" + good[1:],
	} {
		_, err := ParseKey(text)
		if err == nil {
			t.Errorf("%s: got no error", name)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[:20]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func TestNewKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	if a.Address() == b.Address() {
		t.Fatal("two new keys are the same")
	}
	again, err := ParseKey(a.Secret())
	if err != nil || again.Address() != a.Address() {
		t.Errorf("ParseKey(Secret()): got %v, %v, want %s", again, err, a)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		text := fmt.Sprintf(form, a)
		if strings.Contains(text, hex.EncodeToString(a.private.Seed()[:8])) || strings.Contains(text, fmt.Sprint(a.private[:4])[1:8]) {
			t.Errorf("%s shows the key", form)
		}
	}
}

func TestTransactions(t *testing.T) {
	k := key(t)
	for _, v := range load(t).Transactions {
		b := unbase64(t, v.TxBytes)
		tx, err := Decode(b)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if got := tx.Encode(); !bytes.Equal(got, b) {
			t.Errorf("%s: encoded again:\n%x, want\n%x", v.Name, got, b)
		}
		if got := tx.Sender.String(); got != v.Sender {
			t.Errorf("%s: sender %s, want %s", v.Name, got, v.Sender)
		}
		if got := DigestOf(b).String(); got != v.Digest {
			t.Errorf("%s: digest %s, want %s", v.Name, got, v.Digest)
		}
		if d, err := ParseDigest(v.Digest); err != nil || d != DigestOf(b) {
			t.Errorf("%s: ParseDigest(%s): got %s, %v", v.Name, v.Digest, d, err)
		}
		if got := k.Sign(b); got != v.Signature {
			t.Errorf("%s: signature %s, want %s", v.Name, got, v.Signature)
		}
		if signer, err := Verify(b, v.Signature); err != nil || signer != tx.Sender {
			t.Errorf("%s: Verify: got %s, %v", v.Name, signer, err)
		}
		b[len(b)-1] ^= 1
		if _, err := Verify(b, v.Signature); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: Verify of other bytes: got %v, want ErrSignature", v.Name, err)
		}
	}
}

// TestBuild builds two of the vectors from their parts.
func TestBuild(t *testing.T) {
	sender := key(t).Address()
	to := address(t, "0x"+strings.Repeat("ab", 32))
	digest, err := ParseDigest("Cv7n2YaM7Am1ssZGu4khsFkcKHnpgVhwFCSs4kLjrtLW")
	if err != nil {
		t.Fatal(err)
	}
	coin := ObjectRef{ID: address(t, "0x"+strings.Repeat("0", 58)+"c0ffee"), Version: 7, Digest: digest}
	pay := []Command{
		SplitCoins{Coin: GasCoin, Amounts: []Argument{InputAt(0)}},
		TransferObjects{Objects: []Argument{NestedResult(0, 0)}, To: InputAt(1)},
	}
	gas := Gas{Coins: []ObjectRef{coin}, Owner: sender, Price: 1000, Budget: 5_000_000}
	for name, tx := range map[string]Transaction{
		"pay_with_memo_pure": {
			Inputs:   []Input{PureU64(1250417000), PureAddress(to), PureString("inv:7f3a91")},
			Commands: pay, Sender: sender, Gas: gas,
		},
		"pay_expiring": {
			Inputs:   []Input{PureU64(5), PureAddress(to)},
			Commands: pay, Sender: sender, Gas: gas, Expiration: Until(600),
		},
	} {
		all := load(t).Transactions
		i := slices.IndexFunc(all, func(v struct{ Name, Sender, TxBytes, Signature, Digest string }) bool { return v.Name == name })
		want := unbase64(t, all[i].TxBytes)
		if got := tx.Encode(); !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%x, want\n%x", name, got, want)
		}
		if decoded, err := Decode(want); err != nil || !reflect.DeepEqual(decoded, tx) {
			t.Errorf("%s: decoded: got\n%+v, %v, want\n%+v", name, decoded, err, tx)
		}
	}
}

// everything is a transaction with each kind of input and command.
func everything() Transaction {
	ref := ObjectRef{ID: Address{1}, Version: 1 << 63, Digest: Digest{2}}
	return Transaction{
		Inputs: []Input{
			PureU64(1), Pure{}, Owned(ref), Receiving(ref),
			Shared{ID: Address{3}, InitialVersion: 4, Mutable: true}, Shared{ID: Address{3}},
		},
		Commands: []Command{
			SplitCoins{Coin: InputAt(2), Amounts: []Argument{InputAt(0), {Kind: ResultKind, Index: 65535}}},
			TransferObjects{Objects: []Argument{GasCoin, NestedResult(0, 1)}, To: InputAt(1)},
			MergeCoins{Into: GasCoin, From: []Argument{InputAt(2)}},
			MoveCall{Package: Address{31: 1}, Module: "m", Function: "f", Arguments: []Argument{InputAt(0)}},
		},
		Sender: Address{4}, Gas: Gas{Coins: []ObjectRef{ref, ref}, Owner: Address{5}, Price: 6, Budget: 7}, Expiration: Until(8),
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := everything().Encode()
	if got, err := Decode(whole); err != nil || !reflect.DeepEqual(got, everything()) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for n := range whole {
		if _, err := Decode(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes: got no error", n, len(whole))
		}
	}
	for name, test := range map[string]struct {
		b    []byte
		want string
	}{
		"trailing byte":       {append(slices.Clone(whole), 0), "1 bytes after the end"},
		"too long":            {make([]byte, MaxSize+1), "more than 131072"},
		"version":             {[]byte{1}, "version 2"},
		"kind":                {[]byte{0, 3}, "kind 3"},
		"long form of 0":      {[]byte{0x80, 0}, "leading zeros"},
		"number of 2³²":       {[]byte{0x80, 0x80, 0x80, 0x80, 0x10}, "2³²"},
		"endless number":      {bytes.Repeat([]byte{0xff}, 20), "2³²"},
		"inputs beyond input": {[]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, "unexpected end"},
		"Publish":             {[]byte{0, 0, 0, 1, 4}, "Publish is not supported"},
		"Upgrade":             {[]byte{0, 0, 0, 1, 6}, "Upgrade is not supported"},
		"unknown command":     {[]byte{0, 0, 0, 1, 7}, "command of kind 7"},
		"unknown input":       {[]byte{0, 0, 1, 2}, "input of kind 2"},
		"unknown object":      {[]byte{0, 0, 1, 1, 3}, "object of kind 3"},
		"unknown argument":    {[]byte{0, 0, 0, 1, 2, 4}, "argument of kind 4"},
		"boolean of 2":        {append(append([]byte{0, 0, 1, 1, 1}, make([]byte, 40)...), 2), "boolean of value 2"},
		"digest of 31 bytes":  {append(append([]byte{0, 0, 1, 1, 0}, make([]byte, 40)...), append([]byte{31}, make([]byte, 31)...)...), "digest of 31 bytes"},
	} {
		if _, err := Decode(test.b); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestPersonalMessages(t *testing.T) {
	for _, v := range load(t).PersonalMessages {
		message := unbase64(t, v.MessageBase64)
		signer, err := VerifyMessage(message, v.Signature)
		if v.Scheme != "ED25519" {
			if err == nil || !strings.Contains(err.Error(), v.Scheme) {
				t.Errorf("%s: got %v, want an error that names the scheme", v.Scheme, err)
			}
			continue
		}
		if err != nil || signer.String() != v.Address {
			t.Errorf("%q: got %s, %v, want %s", message, signer, err, v.Address)
		}
		if got := key(t).SignMessage(message); got != v.Signature {
			t.Errorf("%q: signature %s, want %s", message, got, v.Signature)
		}
		if _, err := VerifyMessage(append(message, '!'), v.Signature); !errors.Is(err, ErrSignature) {
			t.Errorf("%q and more: got %v, want ErrSignature", message, err)
		}
		if _, err := Verify(message, v.Signature); !errors.Is(err, ErrSignature) {
			t.Errorf("as a transaction: got %v, want ErrSignature", err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	s := unbase64(t, load(t).PersonalMessages[0].Signature)
	encode := base64.StdEncoding.EncodeToString
	for name, test := range map[string]struct{ signature, want string }{
		"empty":      {"", "empty"},
		"not base64": {"***", "not base64"},
		"short":      {encode(s[:96]), "96 bytes"},
		"long":       {encode(append(slices.Clone(s), 0)), "98 bytes"},
		"multisig":   {encode(append([]byte{3}, s...)), "MultiSig"},
		"passkey":    {encode(append([]byte{6}, s...)), "Passkey"},
		"account":    {encode(append([]byte{7}, s...)), "MoveAuthenticator"},
		"unknown":    {encode(append([]byte{9}, s...)), "unknown scheme 9"},
		"huge":       {strings.Repeat("A", 1<<20), "more than"},
	} {
		if _, err := VerifyMessage([]byte("hello"), test.signature); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestParseAddress(t *testing.T) {
	const full = "0x9d24e2eeaf27c2a088a564a32fc03a882dcd9804dbc0d03a119491e54ba0c933"
	for _, text := range []string{full, strings.ToUpper(full), "0x" + strings.ToUpper(full[2:])} {
		if a, err := ParseAddress(text); err != nil || a.String() != full {
			t.Errorf("%s: got %s, %v", text, a, err)
		}
	}
	for _, text := range []string{
		"", "0x", "0x0", "0x2", full[2:], full[:65], full + "0", full[:65] + "g", " " + full, "0x" + strings.Repeat("0", 64),
		"iota1qp", "0x" + strings.Repeat("é", 32),
	} {
		if a, err := ParseAddress(text); err == nil {
			t.Errorf("%q: got %s, want an error", text, a)
		}
	}
}

func TestSame(t *testing.T) {
	two := Address{31: 2}
	for text, want := range map[string]bool{
		"0x2": true, "0X02": true, "2": true, two.String(): true, strings.ToUpper(two.String()): true,
		"": false, "0x": false, "0x20": false, "0xg": false, two.String() + "0": false,
	} {
		if got := two.Same(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}

func TestParseDigest(t *testing.T) {
	for _, text := range []string{"", "1", "0OIl", strings.Repeat("1", 33), strings.Repeat("z", 44), strings.Repeat("1", 1<<20), "é"} {
		if d, err := ParseDigest(text); err == nil {
			t.Errorf("%.50q: got %s, want an error", text, d)
		}
	}
	if d, err := ParseDigest(strings.Repeat("1", 32)); err != nil || d != (Digest{}) {
		t.Errorf("32 ones: got %s, %v", d, err)
	}
}

func TestParseCoinType(t *testing.T) {
	for text, want := range map[string]bool{
		"0x2::iota::IOTA": true,
		"0x" + strings.Repeat("0", 63) + "2::iota::IOTA": true,
		"0X02::iota::IOTA":                true,
		"0x2::iota::iota":                 false,
		"0x2::IOTA::IOTA":                 false,
		"0x20::iota::IOTA":                false,
		"0x2::iota::IOTA<u8>":             false,
		"0xab::iota::IOTA":                false,
		"0xab::pool::LP<0x2::iota::IOTA>": false,
		"0xab::pool::LP<0x2::iota::IOTA, 0xcd::pool::LP<0x2::iota::IOTA>>": false,
		"0x" + strings.Repeat("A", 64) + "::a_b::C0":                       false,
	} {
		c, err := ParseCoinType(text)
		if err != nil || (c == IOTA) != want {
			t.Errorf("%s: got %s, %v; IOTA %t, want %t", text, c, err, c == IOTA, want)
		}
		if again, err := ParseCoinType(c.String()); err != nil || again != c {
			t.Errorf("%s: read again: got %s, %v", c, again, err)
		}
	}
	for _, text := range []string{
		"", "IOTA", "0x2::iota", "0x2::iota::IOTA::x", "0x::iota::IOTA", "0xg::iota::IOTA", "0x2::::IOTA", "0x2::iota::", "0x2::iota:: IOTA",
		"0x" + strings.Repeat("0", 65) + "::iota::IOTA", "0x2::iota::IOTA<", "0x2::iota::IOTA\x00", "0x2::1ota::IOTA", strings.Repeat("0x2::a::b", 1000),
	} {
		if c, err := ParseCoinType(text); err == nil {
			t.Errorf("%.50q: got %s, want an error", text, c)
		}
	}
}

func TestPure(t *testing.T) {
	if v, ok := PureU64(1 << 63).U64(); !ok || v != 1<<63 {
		t.Errorf("U64: got %d, %t", v, ok)
	}
	if a, ok := PureAddress(Address{7}).Address(); !ok || a != (Address{7}) {
		t.Errorf("Address: got %s, %t", a, ok)
	}
	long := strings.Repeat("x", 300)
	if s, ok := PureString(long).Text(); !ok || string(s) != long {
		t.Errorf("Text: got %q, %t", s, ok)
	}
	for _, p := range []Pure{nil, {1}, {2, 'a'}, {1, 'a', 'b'}, {0x81, 0, 'a'}, PureU64(1250417000)} {
		if s, ok := p.Text(); ok {
			t.Errorf("Text of %x: got %q", []byte(p), s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range load(f).Transactions {
		f.Add(unbase64(f, v.TxBytes))
	}
	f.Add(everything().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		tx, err := Decode(b)
		if err != nil {
			return
		}
		if again := tx.Encode(); !bytes.Equal(again, b) {
			t.Errorf("got %x, want %x", again, b)
		}
	})
}

func FuzzText(f *testing.F) {
	v := load(f)
	f.Add(v.Keys[0].IotaPrivKey)
	f.Add(v.Keys[0].Address)
	f.Add(v.Transactions[0].Digest)
	f.Add("0x2::iota::IOTA<0x2::a::B>")
	f.Add(v.PersonalMessages[0].Signature)
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil && a.String() != strings.ToLower(s) {
			t.Errorf("address %q became %s", s, a)
		}
		if d, err := ParseDigest(s); err == nil && d.String() != s {
			t.Errorf("digest %q became %s", s, d)
		}
		if k, err := ParseKey(s); err == nil && k.Secret() != strings.ToLower(s) {
			t.Errorf("key %q became another", s)
		}
		if c, err := ParseCoinType(s); err == nil {
			if again, err := ParseCoinType(c.String()); err != nil || again != c {
				t.Errorf("coin type %q became %s: %v", s, again, err)
			}
		}
		VerifyMessage([]byte(s), s)
	})
}
