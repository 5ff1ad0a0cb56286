package password

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"
)

func TestHash(t *testing.T) {
	for _, pw := range []string{"x", "correct horse", "pässwörd", "a\x00b", strings.Repeat("long", 1000)} {
		h, err := Hash(pw)
		if err != nil {
			t.Fatalf("Hash(%.20q): %v", pw, err)
		}
		if !strings.HasPrefix(h, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("Hash(%.20q): got %s, want the agreed cost", pw, h)
		}
		if ok, err := Verify(h, pw); !ok || err != nil {
			t.Errorf("Verify(%s, %.20q): got %v, %v, want true", h, pw, ok, err)
		}
		for _, other := range []string{"", pw + "x", pw[1:], strings.ToUpper(pw) + "!"} {
			if ok, err := Verify(h, other); ok || err != nil {
				t.Errorf("Verify(hash of %.20q, %.20q): got %v, %v, want false", pw, other, ok, err)
			}
		}
		if again, _ := Hash(pw); again == h {
			t.Errorf("Hash(%.20q) twice: got the same salt", pw)
		}
	}
	if _, err := Hash(""); err == nil {
		t.Error("Hash of nothing: got no error")
	}
}

func TestGenerate(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		pw := Generate()
		if len(pw) != 32 || strings.Trim(pw, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" || seen[pw] {
			t.Fatalf("Generate: got %q, want 32 new characters A-Z and 2-7", pw)
		}
		seen[pw] = true
		h, err := Hash(pw)
		if err != nil || !Cheap(h) {
			t.Fatalf("Hash(%s): got %s, %v, want the cheap one", pw, h, err)
		}
		if ok, err := Verify(h, pw); !ok || err != nil {
			t.Fatalf("Verify(%s, %s): got %v, %v, want true", h, pw, ok, err)
		}
		for _, other := range []string{"", pw[1:], pw + "x", strings.ToLower(pw), Generate()} {
			if ok, err := Verify(h, other); ok || err != nil {
				t.Fatalf("Verify(%s, %s): got %v, %v, want false", h, other, ok, err)
			}
		}
	}
}

// A password that a human chose never gets the cheap hash, and is refused under one.
func TestCheapIsForGeneratedOnly(t *testing.T) {
	pw := Generate()
	for _, human := range []string{
		"x", "correct horse battery staple", strings.Repeat("A", 32), strings.ToLower(pw), pw[:31], pw + "A", " " + pw, pw[:26], "A" + pw[1:31] + "!",
		"PASSWORDPASSWORDPASSWORDPASSWORD", strings.Repeat("\x00", 32),
	} {
		h, err := Hash(human)
		if err != nil || Cheap(h) || !strings.HasPrefix(h, "$argon2id$") {
			t.Errorf("Hash(%q): got %s, %v, want argon2id", human, h, err)
		}
		salt := []byte("sixteen bytes...")
		b64 := base64.RawStdEncoding
		forged := generatedPrefix + b64.EncodeToString(salt) + "$" + b64.EncodeToString(generatedKey(salt, human))
		if ok, err := Verify(forged, human); ok || err != nil {
			t.Errorf("Verify(%s, %q): got %v, %v, want false", forged, human, ok, err)
		}
	}
}

// legacy returns a hash as mosquitto-auth-plug's np makes it, with the base64 text of the
// salt as the salt.
func legacy(digest string, h func() hash.Hash, iterations, keyLen int, pw string) string {
	salt := base64.StdEncoding.EncodeToString([]byte("twelve bytes"))
	key, err := pbkdf2.Key(h, pw, []byte(salt), iterations, keyLen)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("PBKDF2$%s$%d$%s$%s", digest, iterations, salt, base64.StdEncoding.EncodeToString(key))
}

func TestVerifyLegacy(t *testing.T) {
	for _, h := range []string{
		legacy("sha256", sha256.New, 901, 24, "secret"),
		legacy("sha1", sha1.New, 1, 20, "secret"),
		legacy("sha512", sha512.New, 1000, 64, "secret"),
		// PBKDF2-HMAC-SHA1("password", "salt", 2), RFC 6070, with its salt as text.
		"PBKDF2$sha1$2$salt$6mwBTcctb4zNHtkqzh1B8NjeiVc=",
	} {
		pw := "secret"
		if strings.Contains(h, "$salt$") {
			pw = "password"
		}
		if ok, err := Verify(h, pw); !ok || err != nil {
			t.Errorf("Verify(%s, %s): got %v, %v, want true", h, pw, ok, err)
		}
		if ok, err := Verify(h, pw+"x"); ok || err != nil {
			t.Errorf("Verify(%s, %sx): got %v, %v, want false", h, pw, ok, err)
		}
	}
}

// The reference vector of RFC 9106's argon2id needs a key and associated data,
// which a PHC string has no place for; this one is from the reference
// implementation's test.c (argon2id, v=19, t=2, m=65536, p=1).
func TestVerifyArgon2idReference(t *testing.T) {
	h := "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := Verify(h, "password"); !ok || err != nil {
		t.Errorf("Verify(%s): got %v, %v, want true", h, ok, err)
	}
}

func TestVerifyRefusesFormat(t *testing.T) {
	good, err := Hash("x")
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s holds no %s", good, old)
		}
		return strings.Replace(good, old, new, 1)
	}
	key := "$" + strings.Repeat("A", 43) + "="
	cheap := strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)
	for _, h := range []string{
		"", "$", "x", "$$$$$", "plaintext", "argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA", "$PBKDF2$sha256$1$a" + key,
		"$2a$10$abcdefghijklmnopqrstuv", "$argon2id", "$argon2id$", good + "$", "$argon2i" + good[9:],
		edit("v=19", "v=16"), edit("v=19", "v=019"),
		edit("m=19456", "m=4294967295"), edit("m=19456", "m=1048576"), edit("m=19456", "m=7"), edit("m=19456", "m=-1"),
		edit("t=2", "t=0"), edit("t=2", "t=1000000"), edit("t=2", "t=99999999999999999999"), edit("p=1", "p=0"), edit("p=1", "p=255"),
		edit("m=19456,t=2,p=1", "t=2,m=19456,p=1"), edit("m=19456,t=2,p=1", "m=19456,t=2"), edit("m=19456,t=2,p=1", "m=8,t=2,p=2"),
		good[:strings.LastIndex(good, "$")+1], good[:len(good)-30], good + strings.Repeat("A", 400), edit("$", "$$"),
		"PBKDF2$sha256$0$salt" + key, "PBKDF2$sha256$2147483648$salt" + key, "PBKDF2$sha256$-1$salt" + key, "PBKDF2$sha256$x$salt" + key,
		"PBKDF2$md5$1$salt" + key, "PBKDF2$SHA256$1$salt" + key, "PBKDF2$sha256$1$" + key, "PBKDF2$sha256$1$salt", "PBKDF2$sha256$1$salt$",
		"PBKDF2$sha256$1$salt$AAAA", "PBKDF2$sha256$1$salt$!" + key, "PBKDF2$sha256$1$salt" + key + "$x", "PBKDF2", "PBKDF2$",
		"PBKDF2$sha256$1$" + strings.Repeat("s", 1000) + key,
		"$generated-sha256", "$generated-sha256$", "$generated-sha256$$", "generated-sha256$" + cheap, "$generated-sha512$" + cheap, "$generated-sha256$" + cheap + "$",
		"$generated-sha256$" + cheap[1:], "$generated-sha256$" + cheap[:len(cheap)-1], "$generated-sha256$" + cheap + "AAAA$", "$generated-sha256$!" + cheap[1:],
	} {
		start := time.Now()
		ok, err := Verify(h, "x")
		if ok || !errors.Is(err, ErrFormat) {
			t.Errorf("Verify(%.80q): got %v, %v, want an error wrapping ErrFormat", h, ok, err)
		}
		if err := Check(h); !errors.Is(err, ErrFormat) {
			t.Errorf("Check(%.80q): got error %v, want one wrapping ErrFormat", h, err)
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("Verify(%.80q) took %v: it did work before it refused", h, took)
		}
	}
}

// FuzzVerify checks that no stored text makes Verify panic, take long or accept an
// unrelated password.
func FuzzVerify(f *testing.F) {
	good, _ := Hash("x")
	f.Add(good)
	f.Add(legacy("sha256", sha256.New, 901, 24, "x"))
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA")
	cheap, _ := Hash(Generate())
	f.Add(cheap)
	f.Fuzz(func(t *testing.T, stored string) {
		if ok, err := Verify(stored, "not the password of anything"); ok {
			t.Errorf("Verify(%q): got true, %v", stored, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for name, pw := range map[string]string{"human": "secret", "generated": Generate()} {
		b.Run(name, func(b *testing.B) {
			h, err := Hash(pw)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := Verify(h, pw); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
