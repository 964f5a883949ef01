// SPDX-License-Identifier: Apache-2.0

// Package state stores what clients have created in a file, so that a restarted daemon finds it again. Each change is
// on the disk before the call returns.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// format is the version of the records. Increment it when an older daemon would misread new records.
const format = "1"

const (
	fileName = "state.db"
	fileMode = 0o600
	// lockPatience is how long Open waits for another daemon to release the file.
	lockPatience = 2 * time.Second
)

var (
	metaBucket = []byte("meta")
	formatKey  = []byte("format")
)

// Errors of Open, in addition to those of the file system.
var (
	ErrDamaged = errors.New("the state is damaged")
	ErrNewer   = errors.New("the state was written by a newer dpservice")
	ErrInUse   = errors.New("another dpservice uses the state")
)

// Interface is the record of a guest's interface: the parameters that it is created with.
type Interface struct {
	ID         string     `json:"id"`
	Device     string     `json:"device"`
	VNI        uint32     `json:"vni"`
	IPv4       netip.Addr `json:"ipv4"`
	IPv6       netip.Addr `json:"ipv6"`
	UnderlayIP netip.Addr `json:"underlay_ip"`
	Hostname   string     `json:"hostname,omitempty"`
	PXEServer  string     `json:"pxe_server,omitempty"`
	PXEFile    string     `json:"pxe_file,omitempty"`
}

// Route is a route of a virtual network.
type Route struct {
	VNI        uint32       `json:"vni"`
	Prefix     netip.Prefix `json:"prefix"`
	NextHopVNI uint32       `json:"next_hop_vni"`
	NextHopIP  netip.Addr   `json:"next_hop_ip"`
}

// Capture is the record of a capture, which continues after a restart.
type Capture struct {
	Name       string        `json:"name"`
	Sink       netip.Addr    `json:"sink"`
	UDPSrcPort uint16        `json:"udp_src_port"`
	UDPDstPort uint16        `json:"udp_dst_port"`
	Encap      string        `json:"encap"`
	Direction  string        `json:"direction"`
	Drops      bool          `json:"drops,omitempty"`
	Filter     string        `json:"filter,omitempty"`
	Duration   time.Duration `json:"duration,omitempty"` // this and the next two: limits, counted from the first start
	Packets    uint64        `json:"packets,omitempty"`
	Bytes      uint64        `json:"bytes,omitempty"`
	Rate       uint64        `json:"packets_per_second,omitempty"` // another limit
	Targets    []Target      `json:"targets"`
	StartedAt  time.Time     `json:"started_at"`
	Seen       time.Time     `json:"seen"`    // when the capture was last known to run
	Base       Counts        `json:"base"`    // the copies before the last restart
	Counted    Counts        `json:"counted"` // all copies, including Base
	Gaps       []Gap         `json:"gaps,omitempty"`
	Waiting    bool          `json:"waiting,omitempty"` // the capture could not be restored yet
}

// Target is one source of a capture: a guest's interface, or a physical port.
type Target struct {
	VF string `json:"vf,omitempty"` // interface id; empty for a PF
	PF int    `json:"pf"`
}

// Counts are the copies of a capture, in total and by interface.
type Counts struct {
	Count
	Interfaces map[string]Count `json:"interfaces,omitempty"` // by interface and direction
}

// Count is a number of packets and of their bytes.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Gap is a period in which nothing was captured.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Store is an open file of records. It is safe for concurrent use.
type Store struct {
	Interfaces Table[Interface] // by id
	Routes     Table[Route]     // by RouteKey
	Captures   Table[Capture]   // by name

	db   *bbolt.DB
	path string
}

// RouteKey returns a route's key in the Store. A virtual network has at most one route for a prefix.
func RouteKey(vni uint32, prefix netip.Prefix) string { return fmt.Sprintf("%d/%s", vni, prefix) }

// Open opens the store in a folder, and creates it if there is none. A file that is damaged, or that a newer dpservice
// has written, is left unchanged, and Open returns an error.
func Open(dir string) (*Store, error) {
	path := filepath.Join(dir, fileName)
	db, err := open(path)
	switch {
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrNewer):
		return nil, fmt.Errorf("%w: %s stays as it is; move it away to start without what it holds", err, path)
	case err != nil:
		return nil, fmt.Errorf("open the state %s: %w", path, err)
	}
	s := &Store{db: db, path: path}
	s.Interfaces = Table[Interface]{db, []byte("interfaces")}
	s.Routes = Table[Route]{db, []byte("routes")}
	s.Captures = Table[Capture]{db, []byte("captures")}
	return s, nil
}

func open(path string) (*bbolt.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if err := examine(path); err != nil {
		return nil, err
	}
	return bbolt.Open(path, fileMode, &bbolt.Options{Timeout: lockPatience})
}

// create makes an empty store. It writes the store under a temporary name and renames it when it is complete, so that
// a crash never leaves an incomplete store.
func create(path string) error {
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(unfinished, fileMode, &bbolt.Options{Timeout: lockPatience})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		for _, name := range []string{"interfaces", "routes", "captures"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return meta.Put(formatKey, []byte(format))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// examine reads the whole file without changing it. A damaged file can make the library panic or read beyond the end of
// the file; examine turns both into an error.
func examine(path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: it is empty", ErrDamaged) // the library would treat it as a new file
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{Timeout: lockPatience, ReadOnly: true})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(examineAll)
}

func examineAll(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("%w: it has no format", ErrDamaged)
	}
	if found := string(meta.Get(formatKey)); found != format {
		return fmt.Errorf("%w: its format is %q, this dpservice has %q", ErrNewer, found, format)
	}
	var errs []error
	for err := range tx.Check() { // the channel must be read to its end
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrDamaged, errs[0])
	}
	return errors.Join(
		readAll[Interface](tx, "interfaces"), readAll[Route](tx, "routes"), readAll[Capture](tx, "captures"),
	)
}

// readAll returns an error if the table is missing or one of its records cannot be decoded.
func readAll[T any](tx *bbolt.Tx, name string) error {
	bucket := tx.Bucket([]byte(name))
	if bucket == nil {
		return fmt.Errorf("%w: it has no %s", ErrDamaged, name)
	}
	return bucket.ForEach(func(key, text []byte) error {
		if err := json.Unmarshal(text, new(T)); err != nil {
			return fmt.Errorf("%w: %s %q: %w", ErrDamaged, name, key, err)
		}
		return nil
	})
}

// Close closes the file.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the state %s: %w", s.path, err)
	}
	return nil
}

// Table is the records of one kind.
type Table[T any] struct {
	db   *bbolt.DB
	name []byte
}

// Put adds a record, or replaces the one with the same key.
func (t Table[T]) Put(key string, record T) error {
	text, err := json.Marshal(record)
	if err == nil {
		err = t.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(t.name).Put([]byte(key), text) })
	}
	if err != nil {
		return fmt.Errorf("keep %s of %s: %w", key, t.name, err)
	}
	return nil
}

// Delete removes a record, and reports whether there was one.
func (t Table[T]) Delete(key string) (found bool, err error) {
	err = t.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(t.name)
		found = bucket.Get([]byte(key)) != nil
		return bucket.Delete([]byte(key))
	})
	if err != nil {
		return false, fmt.Errorf("forget %s of %s: %w", key, t.name, err)
	}
	return found, nil
}

// All returns the records, ordered by their keys.
func (t Table[T]) All() ([]T, error) {
	var all []T
	err := t.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(t.name).ForEach(func(_, text []byte) error {
			var record T
			if err := json.Unmarshal(text, &record); err != nil {
				return err
			}
			all = append(all, record)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	return all, nil
}
