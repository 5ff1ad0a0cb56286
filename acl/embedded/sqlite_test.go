package embedded

import (
	"database/sql"
	"fmt"
	"testing"
)

// TestSQLiteVersion checks that SQLite has the fix of 3.51.3 for the WAL-reset bug,
// which can corrupt a database; see sqlite.org/wal.html.
func TestSQLiteVersion(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var version string
	if err := db.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	if got := major*1_000_000 + minor*1_000 + patch; got < 3_051_003 {
		t.Errorf("SQLite: got version %s, want at least 3.51.3", version)
	}
	t.Logf("SQLite %s", version)
}
