// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/internal/bucket"
	"dpservice/tools/fleet/merge"
)

// completeTimeout is how long collectors may take to complete the files of a capture that has ended.
const completeTimeout = 2 * time.Minute

func (a *app) fetch() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "fetch NAME",
		Short: "Fetch a capture's packets from all collectors, merged by time",
		Long: `Fetch what the collectors have of a capture, and merge it by time into NAME.pcapng. --from is the bucket that they
put files into (the keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or a folder that has what is in theirs.
Of a capture that has not ended there is what is complete so far.`,
		Example: `  kubectl dpcapture fetch tenant-a --from=https://s3.example/captures -o out/
  kubectl dpcapture fetch tenant-a --from=/mnt/captures -o out/`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.connect(); err != nil {
				return err
			}
			return a.fetchTo(cmd.Context(), cmd, args[0], from, to)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "https://HOST[:PORT]/BUCKET, or a folder")
	cmd.Flags().StringVarP(&to, "output", "o", ".", "folder for the result")
	_ = cmd.MarkFlagRequired("from") // it is there
	return cmd
}

// fetchTo fetches and merges a capture's files.
func (a *app) fetchTo(ctx context.Context, cmd *cobra.Command, name, from, to string) (err error) {
	c, err := a.get(ctx, name)
	if err != nil {
		return err
	}
	if _, end := c.Window(); !end.IsZero() && end.Before(time.Now()) {
		if err := a.awaitFiles(ctx, c); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(to, ".fetch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files, err := filesOf(ctx, c, from, dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("there are no files of %s in %s", name, from)
	}
	result := filepath.Join(to, name+".pcapng")
	merged, err := mergeTo(result, dir, c, files)
	if err != nil {
		return err
	}
	for _, file := range merged.Cut {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: the end of %s is missing\n", filepath.Base(file))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d packets of %d interfaces, from %d files, in %s\n", merged.Packets, merged.Interfaces,
		len(files), result)
	return nil
}

// awaitFiles waits until no collector writes files of a capture, or has some yet to take away.
func (a *app) awaitFiles(ctx context.Context, c *v1alpha1.PacketCapture) error {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	for {
		var list v1alpha1.PacketCollectorList
		if err := a.client.List(ctx, &list, client.InNamespace(a.namespace)); err != nil {
			return err
		}
		busy := slices.IndexFunc(list.Items, func(p v1alpha1.PacketCollector) bool {
			return slices.ContainsFunc(p.Captures, func(of v1alpha1.CollectedCapture) bool { return of.UID == string(c.UID) })
		})
		if busy < 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("collector %s does not complete its files: %w", list.Items[busy].Name, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// filesOf returns the names of a capture's files, which it brings into dir if they are not on this machine.
func filesOf(ctx context.Context, c *v1alpha1.PacketCapture, from, dir string) ([]string, error) {
	if !strings.Contains(from, "://") {
		return filepath.Glob(filepath.Join(from, c.Folder(), "*.pcapng"))
	}
	store, name, err := bucket.Open(from)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	var files []string
	for o := range store.ListObjects(ctx, name, minio.ListObjectsOptions{Prefix: c.Folder() + "/", Recursive: true}) {
		if o.Err != nil {
			return nil, fmt.Errorf("bucket %s: %w", name, o.Err)
		}
		file := filepath.Join(dir, path.Base(o.Key))
		if err := store.FGetObject(ctx, name, o.Key, file, minio.GetObjectOptions{}); err != nil {
			return nil, fmt.Errorf("bucket %s: %s: %w", name, o.Key, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// mergeTo merges files into a new one, which is there as a whole or not at all.
func mergeTo(result, dir string, c *v1alpha1.PacketCapture, files []string) (merge.Result, error) {
	out, err := os.CreateTemp(dir, "merged-")
	if err != nil {
		return merge.Result{}, err
	}
	merged, err := merge.Files(out, fmt.Sprintf("PacketCapture %s, %s", c.Name, c.UID), files)
	if err := errors.Join(err, out.Close()); err != nil {
		return merged, err
	}
	return merged, os.Rename(out.Name(), result)
}
