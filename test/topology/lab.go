// SPDX-License-Identifier: Apache-2.0

// Package topology builds small networks out of network namespaces and veth pairs: hypervisors that run the
// built dpservice, their guests, an underlay router and a sink. A Lab owns every namespace, process and file
// it made and removes them all, also after a failure or Ctrl-C.
package topology

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// prefix begins the name of every namespace and folder of a Lab; the pid of its process follows.
const prefix = "dpslab-"

// runDir is where labs keep sockets, configurations and recordings. Only root can write to it and its parents, which
// EAL requires of the path of a plugin.
const runDir = "/run"

// ealDir is where EAL makes a folder for each program without RUNTIME_DIRECTORY. EAL does not remove these folders.
const ealDir = "/run/dpdk"

var errClosed = errors.New("the lab is closed")

// open holds the labs that CloseAll has to close.
var open struct {
	sync.Mutex
	labs map[*Lab]struct{}
}

// Lab is a set of namespaces, processes and files that are removed together.
type Lab struct {
	id  string
	dir string

	closing    sync.Mutex // held by Close, so that a second call returns only when the first has finished
	mu         sync.Mutex
	closed     bool
	processes  []*Process
	namespaces []string
}

// New returns an empty Lab. On error it leaves nothing behind.
func New() (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("building network namespaces needs root")
	}
	suffix := make([]byte, 3)
	if _, err := rand.Read(suffix); err != nil {
		return nil, fmt.Errorf("drawing a random name: %w", err)
	}
	id := ownerPrefix(os.Getpid()) + hex.EncodeToString(suffix)
	l := &Lab{id: id, dir: filepath.Join(runDir, id)}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the lab's folder: %w", err)
	}
	open.Lock()
	defer open.Unlock()
	if open.labs == nil {
		open.labs = make(map[*Lab]struct{})
	}
	open.labs[l] = struct{}{}
	return l, nil
}

// Dir is the lab's private folder; Close removes it.
func (l *Lab) Dir() string { return l.dir }

// Path returns a file name in the lab's private folder.
func (l *Lab) Path(name string) string { return filepath.Join(l.dir, name) }

// Close ends the lab's processes, newest first, and removes its namespaces and files. It can be called twice.
func (l *Lab) Close() error {
	l.closing.Lock()
	defer l.closing.Unlock()
	l.mu.Lock()
	l.closed = true
	processes, namespaces := l.processes, l.namespaces
	l.processes, l.namespaces = nil, nil
	l.mu.Unlock()

	var errs []error
	for i := len(processes) - 1; i >= 0; i-- {
		if err := processes[i].end(); err != nil {
			errs = append(errs, err)
		}
	}
	for i := len(namespaces) - 1; i >= 0; i-- {
		errs = append(errs, removeNamespace(namespaces[i]))
	}
	errs = append(errs, os.RemoveAll(l.dir))

	open.Lock()
	delete(open.labs, l)
	open.Unlock()
	return errors.Join(errs...)
}

// CloseAll closes every lab that is still open: for signal handlers.
func CloseAll() error {
	open.Lock()
	labs := make([]*Lab, 0, len(open.labs))
	for l := range open.labs {
		labs = append(labs, l)
	}
	open.Unlock()
	var errs []error
	for _, l := range labs {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Leaks returns the names of namespaces, files and processes that the labs of this process have left behind.
func Leaks() ([]string, error) {
	left, err := Left(os.Getpid())
	if err != nil {
		return nil, err
	}
	children, err := childProcesses()
	if err != nil {
		return nil, err
	}
	return append(left, children...), nil
}

// Left returns the names of namespaces and folders that the labs of a process have left behind. The process may have
// ended.
func Left(pid int) ([]string, error) {
	namespaces, dirs, err := remains()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, name := range namespaces {
		if strings.HasPrefix(name, ownerPrefix(pid)) {
			left = append(left, "namespace "+name)
		}
	}
	for _, dir := range dirs {
		if strings.HasPrefix(filepath.Base(dir), ownerPrefix(pid)) {
			left = append(left, "folder "+dir)
		}
	}
	return left, nil
}

// Sweep removes the labs of processes that were killed and could not clean up.
func Sweep() error {
	namespaces, dirs, err := remains()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range namespaces {
		if ownerGone(name) {
			errs = append(errs, removeNamespace(name))
		}
	}
	for _, dir := range dirs {
		if ownerGone(filepath.Base(dir)) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// remains lists the namespaces by name and the folders by path of all labs of all processes.
func remains() (namespaces, dirs []string, err error) {
	if namespaces, err = labNames("/run/netns"); err != nil {
		return nil, nil, err
	}
	for _, parent := range []string{runDir, ealDir} {
		names, err := labNames(parent)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			dirs = append(dirs, filepath.Join(parent, name))
		}
	}
	return namespaces, dirs, nil
}

func labNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func ownerPrefix(pid int) string { return prefix + strconv.Itoa(pid) + "-" }

func ownerGone(name string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
	n, err := strconv.Atoi(pid)
	return err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
}

// childProcesses describes the children of this process that have not been waited for.
func childProcesses() ([]string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []string
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended in the meantime
		}
		// The format is "pid (command) state ppid ...", where the command may contain spaces and parentheses.
		end := strings.LastIndexByte(string(stat), ')')
		fields := strings.Fields(string(stat[end+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			children = append(children, "process "+string(stat[:end+1]))
		}
	}
	return children, nil
}
