// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// uploadInterval is how often complete files are looked for.
	uploadInterval = 5 * time.Second
	// lastUpload is how long the last files may take when the collector ends.
	lastUpload = 20 * time.Second
)

// Store takes files away.
type Store interface {
	// Put stores a file under a name, whose parts slashes separate, and returns when the store has it.
	Put(ctx context.Context, name, file string) error
}

// upload takes complete files away, again and again, until ctx ends.
func (c *Collector) upload(ctx context.Context) {
	if c.config.Upload == nil {
		<-ctx.Done()
		return
	}
	for {
		c.uploadAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(uploadInterval):
		}
	}
}

// uploadAll takes all complete files away. What the store does not take stays, and is tried again.
func (c *Collector) uploadAll(ctx context.Context) {
	files, err := c.complete()
	if err != nil {
		c.log.Warn("looking for complete files", "err", err)
	}
	for _, name := range files {
		file := filepath.Join(c.config.Dir, name)
		if err := c.config.Upload.Put(ctx, filepath.ToSlash(name), file); err != nil {
			c.log.Warn("a file is not uploaded, and stays", "file", file, "err", err)
			return
		}
		if err := os.Remove(file); err != nil {
			c.log.Warn("a file is uploaded, but stays", "file", file, "err", err)
			return
		}
		c.log.Info("uploaded", "file", name)
	}
}

// complete returns the files that nobody writes any more, relative to the collector's folder: all but the newest of
// each running reception. Those of an earlier run of this collector are among them.
func (c *Collector) complete() ([]string, error) {
	c.mu.Lock()
	written := map[string]bool{}
	for _, r := range c.receptions {
		if !r.done {
			written[r.folder] = true
		}
	}
	c.mu.Unlock()
	folders, err := os.ReadDir(c.config.Dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(c.config.Dir, folder.Name(), c.config.Name+"_*.pcapng"))
		if err != nil {
			return nil, err
		}
		if err := sortByAge(files); err != nil {
			return nil, err
		}
		if written[folder.Name()] && len(files) > 0 {
			files = files[:len(files)-1]
		}
		for _, file := range files {
			all = append(all, filepath.Join(folder.Name(), filepath.Base(file)))
		}
	}
	return all, nil
}

// sortByAge sorts files by when they were last written, the oldest first.
func sortByAge(files []string) error {
	ages := map[string]time.Time{}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was one too many
			return err
		}
		if err == nil {
			ages[file] = info.ModTime()
		}
	}
	slices.SortStableFunc(files, func(a, b string) int { return ages[a].Compare(ages[b]) })
	return nil
}

// Bucket is a bucket of an S3-compatible store.
type Bucket struct {
	Client *minio.Client
	Name   string
}

// Put implements Store.
func (b Bucket) Put(ctx context.Context, name, file string) error {
	_, err := b.Client.FPutObject(ctx, b.Name, name, file, minio.PutObjectOptions{ContentType: "application/x-pcapng"})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", b.Name, err)
	}
	return nil
}
