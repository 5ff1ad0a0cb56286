package acl

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func mustFilter(t testing.TB, s string) Filter {
	t.Helper()
	f, err := ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseFilter(t *testing.T) {
	for _, s := range []string{"#", "+", "/", "a", "a/b", "a/", "/a", "//", "+/+", "a/+/b", "a/#", "+/#", "$SYS/#", "$SYS/broker/+", "$shared", "$share", "ä/ö", " ", "a b", strings.Repeat("x", 65535)} {
		f, err := ParseFilter(s)
		if err != nil {
			t.Errorf("ParseFilter(%.30q): %v", s, err)
		} else if f.String() != s {
			t.Errorf("ParseFilter(%.30q).String(): got %.30q", s, f)
		}
	}
	for s, want := range map[string]string{
		"":                         `topic filter "": is empty`,
		"a+":                       `topic filter "a+": + must be a whole level, as in a/+/b`,
		"+a/b":                     `topic filter "+a/b": + must be a whole level, as in a/+/b`,
		"a/++":                     `topic filter "a/++": + must be a whole level, as in a/+/b`,
		"#/a":                      `topic filter "#/a": # must be the whole last level, as in a/#`,
		"a#":                       `topic filter "a#": # must be the whole last level, as in a/#`,
		"a/#/":                     `topic filter "a/#/": # must be the whole last level, as in a/#`,
		"##":                       `topic filter "##": # must be the whole last level, as in a/#`,
		"+#":                       `topic filter "+#": # must be the whole last level, as in a/#`,
		"a\x00b":                   `topic filter "a\x00b": contains a NUL character`,
		"a\xff":                    `topic filter "a\xff": is not UTF-8`,
		"\xed\xa0\x80":             `topic filter "\xed\xa0\x80": is not UTF-8`,
		"$share/g/a":               `topic filter "$share/g/a": is a shared subscription; leave out $share/ and the group`,
		strings.Repeat("x", 65536): `topic filter "` + strings.Repeat("x", 60) + `"... (65536 bytes): is longer than 65535 bytes`,
	} {
		if f, err := ParseFilter(s); err == nil || err.Error() != want || f != (Filter{}) {
			t.Errorf("ParseFilter(%.30q): got %q, %v, want error %s", s, f, err, want)
		}
	}
}

func TestSubscription(t *testing.T) {
	for s, want := range map[string]string{
		"a/+": "a/+", "#": "#", "$share/g/a": "a", "$share/g/#": "#", "$share/g//a": "/a", "$share/g/$SYS/#": "$SYS/#",
		"$share/g/$share/h/a": "$share/h/a", "$shared/g/a": "$shared/g/a", "$SHARE/g/a": "$SHARE/g/a", "$share": "$share",
	} {
		if f, shared, err := subscription(s); err != nil || f != want || shared != (f != s) {
			t.Errorf("subscription(%q): got %q, %v, %v, want %q", s, f, shared, err, want)
		}
	}
	for _, s := range []string{"", "$share/", "$share//", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a", "$share/g+/a", "$share/g/a#", "a#"} {
		if f, _, err := subscription(s); err == nil {
			t.Errorf("subscription(%q): got %q, want an error", s, f)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, s := range []string{"john", "j", "Jörg", "a b", "%c", "$SYS", "a.b@c"} {
		if err := CheckName(s); err != nil {
			t.Errorf("CheckName(%q): %v", s, err)
		}
	}
	for _, s := range []string{"", "a+", "#", "a/b", "a\x00", "\xc0\x80", strings.Repeat("x", 70000)} {
		if err := CheckName(s); err == nil || len(err.Error()) > 200 {
			t.Errorf("CheckName(%.30q): got %v, want a short error", s, err)
		}
	}
}

// words returns every string of 1 to n characters of the alphabet.
func words(alphabet string, n int) []string {
	all, last := []string(nil), []string{""}
	for range n {
		var next []string
		for _, w := range last {
			for _, c := range alphabet {
				next = append(next, w+string(c))
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

// byDefinition is a direct transcription of MQTT 5, section 4.7.
func byDefinition(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	if f[len(f)-1] == "#" {
		f = f[:len(f)-1]
		if len(t) < len(f) {
			return false
		}
		t = t[:len(f)]
	}
	if len(f) != len(t) {
		return false
	}
	for i := range f {
		if f[i] != "+" && f[i] != t[i] {
			return false
		}
	}
	return true
}

func filters(t testing.TB, texts []string) []Filter {
	var fs []Filter
	for _, s := range texts {
		if f, err := ParseFilter(s); err == nil {
			fs = append(fs, f)
		}
	}
	return fs
}

// Every filter of up to five characters, and every topic of up to six, of a small
// alphabet.
func TestMatchesExhaustively(t *testing.T) {
	fs := filters(t, words("ab/+#$", 5))
	topics := words("a/$", 6)
	n := 0
	for _, f := range fs {
		for _, topic := range topics {
			n++
			if got, want := f.Matches(topic), byDefinition(f.text, topic); got != want {
				t.Fatalf("%q.Matches(%q): got %v, want %v", f, topic, got, want)
			}
		}
	}
	t.Logf("%d filters, %d topics, %d pairs", len(fs), len(topics), n)
}

func TestMatchesOnlyTopics(t *testing.T) {
	for _, topic := range []string{"", "+", "#", "a/+", "a/#", "a\x00", "\xff", strings.Repeat("x", 65536)} {
		if mustFilter(t, "#").Matches(topic) {
			t.Errorf("#.Matches(%.30q): got true, want false", topic)
		}
	}
	if (Filter{}).Matches("a") || (Filter{}).Covers(Filter{}) {
		t.Error("the zero Filter matches or covers something")
	}
}

// overlap reports whether some topic is matched by both filters.
func overlap(f, g Filter) bool { return overlaps(f.text, g.text, "") }

// Covers and overlaps against their definition: enumerate the topics. Topics of
// two characters more than any filter stand for all topics.
func TestCoversAndOverlapsExhaustively(t *testing.T) {
	fs := filters(t, words("a/+#$", 5))
	topics := words("a/$", 7)
	// The set of topics that each filter matches, as bits.
	sets := make([][]uint64, len(fs))
	for i, f := range fs {
		sets[i] = make([]uint64, len(topics)/64+1)
		for j, topic := range topics {
			if byDefinition(f.text, topic) {
				sets[i][j/64] |= 1 << (j % 64)
			}
		}
	}
	for i, f := range fs {
		for j, g := range fs {
			covers, overlaps := true, false
			for k := range sets[i] {
				covers = covers && sets[j][k]&^sets[i][k] == 0
				overlaps = overlaps || sets[i][k]&sets[j][k] != 0
			}
			if got := f.Covers(g); got != covers {
				t.Fatalf("%q.Covers(%q): got %v, want %v", f, g, got, covers)
			}
			if got := overlap(f, g); got != overlaps {
				t.Fatalf("overlaps(%q, %q): got %v, want %v", f, g, got, overlaps)
			}
		}
	}
	t.Logf("%d filters, %d topics, %d pairs", len(fs), len(topics), len(fs)*len(fs))
}

// oracle asks mosquitto_topic_matches_sub about pairs of filter and topic.
func oracle(t testing.TB, pairs [][2]string) []byte {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "oracle")
	if out, err := exec.Command("cc", "-O2", "-o", exe, "testdata/oracle.c", "-lmosquitto").CombinedOutput(); err != nil {
		t.Fatalf("compile the oracle (needs cc and libmosquitto-dev): %v\n%s", err, out)
	}
	var in bytes.Buffer
	for _, p := range pairs {
		for _, s := range p {
			in.Write(binary.BigEndian.AppendUint16(nil, uint16(len(s))))
			in.WriteString(s)
		}
	}
	cmd := exec.Command(exe)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil || len(out) != len(pairs) {
		t.Fatalf("oracle: got %d answers, %v, want %d", len(out), err, len(pairs))
	}
	return out
}

// Matches agrees with mosquitto_topic_matches_sub.
func TestMatchesLikeMosquitto(t *testing.T) {
	var pairs [][2]string
	for _, f := range words("ab/+#$", 4) {
		for _, topic := range words("ab/$+#", 3) {
			pairs = append(pairs, [2]string{f, topic})
		}
	}
	for _, f := range []string{"sensor/live", "sensor/+", "sensor/#", "#", "+/+", "$SYS/#", "$SYS/+/a", "a/b/c/#", "a/+/c", "ä/+", "/+//#", "a//+"} {
		for _, topic := range []string{"sensor/live", "sensor", "sensor/", "sensor/1m/x", "$SYS/broker/a", "$SYS", "a/b/c", "a/b", "a/b/c/d/e", "ä/ö", "//", "a//b", "/a//b"} {
			pairs = append(pairs, [2]string{f, topic})
		}
	}
	answers := oracle(t, pairs)
	for i, p := range pairs {
		f, err := ParseFilter(p[0])
		got := err == nil && f.Matches(p[1])
		valid := err == nil && CheckTopic(p[1]) == nil
		if got != (answers[i] == '1') || valid != (answers[i] != 'x') {
			t.Errorf("%q.Matches(%q): got %v, mosquitto says %c", p[0], p[1], got, answers[i])
		}
	}
	t.Logf("%d pairs", len(pairs))
}

// FuzzFilter checks that a filter that covers another matches every topic that the other
// matches, and that two filters that match one topic overlap.
func FuzzFilter(f *testing.F) {
	f.Add("a/#", "a/+", "a/b")
	f.Add("+/#", "#", "a")
	f.Add("#", "$SYS/#", "$SYS/x")
	f.Add("$share/g/a", "//", "/")
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		fa, errA := ParseFilter(a)
		fb, errB := ParseFilter(b)
		if (errA == nil) != (fa.String() == a && a != "") {
			t.Errorf("ParseFilter(%q): got %q, %v", a, fa, errA)
		}
		if errA != nil || errB != nil {
			return
		}
		ma, mb := fa.Matches(topic), fb.Matches(topic)
		if (ma || mb) && CheckTopic(topic) != nil {
			t.Errorf("%q or %q matches %q, which is no topic", a, b, topic)
		}
		if CheckTopic(topic) == nil && (ma != byDefinition(a, topic) || mb != byDefinition(b, topic)) {
			t.Errorf("Matches(%q): %q %v, %q %v, both unlike the definition", topic, a, ma, b, mb)
		}
		if mb && !ma && fa.Covers(fb) {
			t.Errorf("%q.Covers(%q), but only the latter matches %q", a, b, topic)
		}
		if ma && mb && !overlap(fa, fb) {
			t.Errorf("%q and %q match %q, but do not overlap", a, b, topic)
		}
		if overlap(fa, fb) != overlap(fb, fa) {
			t.Errorf("whether %q and %q overlap depends on their order", a, b)
		}
		if fa.Covers(fb) && !overlap(fa, fb) {
			t.Errorf("%q.Covers(%q), but they do not overlap", a, b)
		}
		if !fa.Covers(fa) {
			t.Errorf("%q does not cover itself", a)
		}
		if CheckTopic(topic) == nil {
			// A topic is a filter that matches itself alone.
			if ft, err := ParseFilter(topic); err == nil && (fa.Covers(ft) != ma || overlap(fa, ft) != ma) {
				t.Errorf("%q: Matches(%q) %v, Covers %v, overlaps %v", a, topic, ma, fa.Covers(ft), overlap(fa, ft))
			}
		}
	})
}
