package embedded

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// repair removes collections that a killed FerretDB left incomplete. FerretDB
// creates a collection in separate statements: the table, its entry in the
// catalog, the unique index on the _id, the note of that index. Killed in
// between, it could never create the collection again or, worse, would accept one
// _id twice. An incomplete collection is empty, since documents are inserted after
// the last step, so it is dropped and created again when it is needed.
//
// No FerretDB may have the directory open meanwhile.
func repair(ctx context.Context, directory string) error {
	files, err := databases(directory)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := repairFile(ctx, file); err != nil {
			return fmt.Errorf("repair %s: %w", file, err)
		}
	}
	return nil
}

// catalog is FerretDB's list of the collections in a file.
const catalog = "_ferretdb_collections"

func repairFile(ctx context.Context, file string) error {
	db, err := open(file)
	if err != nil {
		return err
	}
	tables, err := names(ctx, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
	if err == nil && len(tables) == 0 {
		// Not even the list was made: the file itself was.
		err := db.Close()
		for _, name := range []string{file, file + "-wal", file + "-shm"} {
			if e := os.Remove(name); e != nil && !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
		return err
	}
	if err == nil {
		err = repairTables(ctx, db, tables)
	}
	return errors.Join(err, db.Close())
}

func repairTables(ctx context.Context, db *sql.DB, tables []string) error {
	noted, err := notedIndexes(ctx, db)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if table == catalog {
			continue
		}
		indexes, listed := noted[table]
		if !listed || !indexes[table+"__id_"] {
			if err := dropEmpty(ctx, db, table); err != nil {
				return err
			}
			continue
		}
		made, err := names(ctx, db, "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", table)
		if err != nil {
			return err
		}
		for _, index := range made {
			// Ours begin with iotoll_, see indexAll.
			if strings.HasPrefix(index, table+"_") && !indexes[index] {
				if _, err := db.ExecContext(ctx, fmt.Sprintf("DROP INDEX %q", index)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// dropEmpty removes a collection that was never finished.
func dropEmpty(ctx context.Context, db *sql.DB, table string) error {
	var documents int
	if err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM %q", table)).Scan(&documents); err != nil {
		return err
	}
	if documents > 0 {
		return fmt.Errorf("table %s holds %d documents whose _id nothing keeps unique: restore a backup", table, documents)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("DELETE FROM %q WHERE table_name = ?", catalog), table); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("DROP TABLE %q", table)); err != nil {
		return err
	}
	return tx.Commit()
}

// notedIndexes returns, for each table in FerretDB's list, the names of the
// SQLite indexes that it knows to be made.
func notedIndexes(ctx context.Context, db *sql.DB) (map[string]map[string]bool, error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT table_name, settings FROM %q", catalog))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	noted := make(map[string]map[string]bool)
	for rows.Next() {
		var table, settings string
		if err := rows.Scan(&table, &settings); err != nil {
			return nil, err
		}
		var s struct {
			Indexes []struct {
				Name string `json:"name"`
			} `json:"indexes"`
		}
		if err := json.Unmarshal([]byte(settings), &s); err != nil {
			return nil, fmt.Errorf("settings of table %s: %w", table, err)
		}
		noted[table] = make(map[string]bool)
		for _, index := range s.Indexes {
			noted[table][table+"_"+index.Name] = true
		}
	}
	return noted, rows.Err()
}

// names returns the first column of what a query selects.
func names(ctx context.Context, db *sql.DB, query string, args ...any) ([]string, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}
