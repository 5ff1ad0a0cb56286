package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "modernc.org/sqlite" // the driver that FerretDB registers too
)

// indexEvery is the interval between searches for new collections.
const indexEvery = time.Second

// keepIndexed indexes new collections until ctx ends.
func (s *Server) keepIndexed(ctx context.Context) {
	tick := time.NewTicker(indexEvery)
	defer tick.Stop()
	for {
		if err := indexAll(ctx, s.directory); err != nil && ctx.Err() == nil {
			s.log.WithError(err).Debug("embedded store not indexed, retrying") // it works without
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// indexAll creates an index on the _id of every collection. FerretDB 1.24 creates
// one on the expression _ferretdb_sjson->"_id" but queries
// _ferretdb_sjson->'$._id', which SQLite does not recognize as the same: each
// lookup parses all documents of the collection (4.5 ms for a thousand). FerretDB
// ignores the additional index.
func indexAll(ctx context.Context, directory string) error {
	files, err := databases(directory)
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		if err := index(ctx, file); err != nil {
			errs = append(errs, fmt.Errorf("index %s: %w", file, err))
		}
	}
	return errors.Join(errs...)
}

func index(ctx context.Context, file string) error {
	// It is opened each time: FerretDB may have deleted and recreated the file.
	db, err := open(file)
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := unindexed(ctx, db)
	if err != nil {
		return err
	}
	for _, table := range tables {
		q := fmt.Sprintf(`CREATE INDEX IF NOT EXISTS "iotoll_%s" ON "%[1]s" (_ferretdb_sjson->'$._id')`, table)
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func unindexed(ctx context.Context, db *sql.DB) (tables []string, err error) {
	rows, err := db.QueryContext(ctx, `SELECT name FROM sqlite_master t WHERE type = 'table' AND instr(sql, '_ferretdb_sjson') > 0
		AND NOT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = 'iotoll_' || t.name)`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, rows.Err()
}
