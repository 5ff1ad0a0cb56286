package mongostore

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not run by root: owners are not varied")
	}
	const self, jane, eve = 4711, 4712, 4713
	type entry struct {
		path  string
		mode  fs.FileMode // with ModeSocket or ModeDir
		owner int
		group int
		link  string // target, of a symbolic link
	}
	for _, test := range []struct {
		name    string
		entries []entry
		path    string
		want    string // in the error; empty: none
	}{
		{
			name:    "made by root for a daemon",
			entries: []entry{{path: "run", mode: fs.ModeDir | 0o750, owner: jane, group: self}, {path: "run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane}},
			path:    "run/a.sock",
		},
		{
			name:    "in the home of a user",
			entries: []entry{{path: "jane", mode: fs.ModeDir | 0o755, owner: jane}, {path: "jane/run", mode: fs.ModeDir | 0o755, owner: jane}, {path: "jane/run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane}},
			path:    "jane/run/a.sock",
		},
		{
			name:    "own directory in one that everybody may write to",
			entries: []entry{{path: "tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777}, {path: "tmp/x", mode: fs.ModeDir | 0o700, owner: self}, {path: "tmp/x/a.sock", mode: fs.ModeSocket | 0o660, owner: self}},
			path:    "tmp/x/a.sock",
		},
		{
			name:    "another's directory there",
			entries: []entry{{path: "tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777}, {path: "tmp/x", mode: fs.ModeDir | 0o755, owner: eve}, {path: "tmp/x/a.sock", mode: fs.ModeSocket | 0o666, owner: eve}},
			path:    "tmp/x/a.sock",
			want:    "can be written to by others, and user 4713 made it",
		},
		{
			name:    "another's socket there",
			entries: []entry{{path: "tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777}, {path: "tmp/a.sock", mode: fs.ModeSocket | 0o666, owner: eve}},
			path:    "tmp/a.sock",
			want:    "can be written to by others, and user 4713 made it",
		},
		{
			name:    "directory that everybody may write to",
			entries: []entry{{path: "run", mode: fs.ModeDir | 0o777, owner: jane}, {path: "run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane}},
			path:    "run/a.sock",
			want:    "has mode 0777",
		},
		{
			name:    "directory that a group may write to",
			entries: []entry{{path: "run", mode: fs.ModeDir | 0o770, owner: jane, group: self}, {path: "run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane}},
			path:    "run/a.sock",
			want:    "has mode 0770",
		},
		{
			name:    "user with a group of the same number",
			entries: []entry{{path: "run", mode: fs.ModeDir | 0o775, owner: jane, group: jane}, {path: "run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane}},
			path:    "run/a.sock",
		},
		{
			name: "link",
			entries: []entry{{path: "run", mode: fs.ModeDir | 0o755, owner: jane}, {path: "run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane},
				{path: "d", mode: fs.ModeDir | 0o755}, {path: "d/b.sock", link: "../run/a.sock"}},
			path: "d/b.sock",
		},
		{
			name: "link to what everybody may write to",
			entries: []entry{{path: "tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777}, {path: "tmp/a.sock", mode: fs.ModeSocket | 0o666, owner: eve},
				{path: "b.sock", link: "tmp/a.sock"}},
			path: "b.sock",
			want: "user 4713 made it",
		},
		{
			name: "link that others may have made",
			entries: []entry{{path: "run", mode: fs.ModeDir | 0o755, owner: jane}, {path: "run/a.sock", mode: fs.ModeSocket | 0o660, owner: jane},
				{path: "tmp", mode: fs.ModeDir | 0o777}, {path: "tmp/b.sock", link: "../run/a.sock"}},
			path: "tmp/b.sock",
			want: "has mode 0777",
		},
		{name: "link to itself", entries: []entry{{path: "a.sock", link: "a.sock"}}, path: "a.sock", want: "too many symbolic links"},
		{name: "nothing there", path: "a.sock", want: "no such file"},
		{name: "a directory", entries: []entry{{path: "a.sock", mode: fs.ModeDir | 0o755}}, path: "a.sock", want: "is not a socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			owners := os.Geteuid() == 0
			base := t.TempDir()
			for _, e := range test.entries {
				path := filepath.Join(base, e.path)
				switch {
				case e.link != "":
					if err := os.Symlink(e.link, path); err != nil {
						t.Fatal(err)
					}
					continue
				case e.mode.IsDir():
					if err := os.Mkdir(path, 0o700); err != nil {
						t.Fatal(err)
					}
				default:
					l, err := net.Listen("unix", path)
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
				}
				if owners {
					if err := os.Chown(path, e.owner, e.group); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chmod(path, e.mode&^fs.ModeType); err != nil {
					t.Fatal(err)
				}
			}
			want := test.want
			if !owners && strings.Contains(want, "4713") {
				want = "" // everything is ours
			}
			err := checkSocket(filepath.Join(base, test.path), map[bool]int{true: self, false: os.Geteuid()}[owners])
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("checkSocket: got error %v, want one with %q", err, want)
			}
		})
	}
	if err := checkSocket("a.sock", self); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("checkSocket of a relative path: got error %v, want a refusal", err)
	}
}

// TestOpenRefusesSocket checks that a Store does not connect to such a socket.
func TestOpenRefusesSocket(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(directory, "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(directory, 0o777); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, "mongodb://"+strings.ReplaceAll(l.Addr().String(), "/", "%2F")+"/?serverSelectionTimeoutMS=300", "mosquitto")
	if err := s.CheckVersion(t.Context()); err == nil || !strings.Contains(err.Error(), "others may have made") {
		t.Errorf("CheckVersion: got error %v, want a refusal to connect", err)
	}
}
