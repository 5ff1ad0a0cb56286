package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrDamaged is returned by [Open], [BackUp] and [Restore] for a file that
// SQLite finds inconsistent.
var ErrDamaged = errors.New("file is damaged")

// check runs SQLite's quick_check on every file of a store.
func check(ctx context.Context, directory string) error {
	files, err := databases(directory)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := checkFile(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

// databases returns the paths of the files in a directory that FerretDB keeps
// databases in.
func databases(directory string) ([]string, error) {
	return filepath.Glob(filepath.Join(directory, "*.sqlite"))
}

func checkFile(ctx context.Context, file string) error {
	db, err := open(file)
	if err != nil {
		return err
	}
	faults, err := names(ctx, db, "PRAGMA quick_check(1)")
	err = errors.Join(err, db.Close())
	switch {
	case err != nil && (strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "not a database")):
		return fmt.Errorf("%w: %s: %w", ErrDamaged, file, err)
	case err != nil:
		return fmt.Errorf("check %s: %w", file, err)
	case len(faults) != 1 || faults[0] != "ok":
		return fmt.Errorf("%w: %s: %.200s", ErrDamaged, file, strings.Join(faults, "; "))
	}
	return nil
}

// open opens an existing database file. The connection may write, even where it
// only reads: read-only connections leave SQLite's log behind.
func open(file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// BackUp writes a copy of the store in a directory to a new directory. A Server, in
// this process or another, may have the store open. The copy of each database is a
// consistent snapshot, write-ahead log included, taken after BackUp was called.
// target appears complete or not at all.
//
// The error wraps [fs.ErrExist] if target exists.
func BackUp(ctx context.Context, directory, target string) error {
	if err := backUp(ctx, directory, target); err != nil {
		return fmt.Errorf("back up store in %s: %w", directory, err)
	}
	return nil
}

func backUp(ctx context.Context, directory, target string) error {
	files, err := databases(directory)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("it holds no database")
	}
	return create(target, func(stage string) error {
		for _, file := range files {
			to := filepath.Join(stage, filepath.Base(file))
			if err := vacuumInto(ctx, file, to); err != nil {
				return fmt.Errorf("copy %s: %w", file, err)
			}
			if err := os.Chmod(to, 0o600); err != nil {
				return err
			}
			if err := checkFile(ctx, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// vacuumInto copies a database as one read transaction sees it.
func vacuumInto(ctx context.Context, from, to string) error {
	db, err := open(from)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return errors.Join(err, db.Close())
}

// Restore makes the store in a directory from a copy that [BackUp] wrote. The
// directory must not exist or hold no store yet: the error wraps [fs.ErrExist]
// if it does, or [ErrInUse] if a Server has it open. The files belong to the
// owner of the directory.
func Restore(ctx context.Context, backup, directory string) error {
	if err := restore(ctx, backup, directory); err != nil {
		return fmt.Errorf("restore store in %s from %s: %w", directory, backup, err)
	}
	return nil
}

func restore(ctx context.Context, backup, directory string) error {
	files, err := databases(backup)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("the backup holds no database")
	}
	owner, err := os.Stat(directory)
	if errors.Is(err, fs.ErrNotExist) {
		owner, err = os.Stat(filepath.Dir(directory))
	}
	if err != nil {
		return err
	}
	if directory, err = makeDirectory(directory); err != nil {
		return err
	}
	lock, err := lockDirectory(directory)
	if err != nil {
		return err
	}
	defer lock.Close()
	if old, err := databases(directory); err != nil || len(old) > 0 {
		return errors.Join(err, fmt.Errorf("%s holds a store: %w", directory, fs.ErrExist))
	}
	// The files get their final names last: an interrupted restore leaves no store.
	stage, err := os.MkdirTemp(directory, ".restore-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	for _, file := range files {
		to := filepath.Join(stage, filepath.Base(file))
		if err := copyFile(file, to); err != nil {
			return err
		}
		if err := checkFile(ctx, to); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := os.Rename(filepath.Join(stage, filepath.Base(file)), filepath.Join(directory, filepath.Base(file))); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	return errors.Join(give(directory, owner), flush(directory))
}

// create makes a directory with the files that fill writes. The directory appears
// complete, and is on the disk when create returns.
func create(directory string, fill func(stage string) error) error {
	if _, err := os.Lstat(directory); err == nil {
		return fmt.Errorf("%s: %w", directory, fs.ErrExist)
	}
	parent := filepath.Dir(directory)
	stage, err := os.MkdirTemp(parent, ".iotoll-backup-") // with mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage) // gone by then, if all went well
	if err := fill(stage); err != nil {
		return err
	}
	files, err := databases(stage)
	if err != nil {
		return err
	}
	for _, path := range append(files, stage) {
		if err := flush(path); err != nil {
			return err
		}
	}
	if err := os.Rename(stage, directory); err != nil {
		return err
	}
	return flush(parent)
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}

// give changes the owner of a directory and its files to the owner of another file.
// Only root needs it.
func give(directory string, like fs.FileInfo) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner := like.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(directory, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

// flush waits until a file or a directory is on the disk.
func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
