// SPDX-License-Identifier: Apache-2.0

// Package bucket opens buckets of S3-compatible stores.
package bucket

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Open returns a client of a store, and the name of the bucket in it. The address is https://HOST[:PORT]/BUCKET, or
// with http. The keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Nothing is sent yet.
func Open(address string) (*minio.Client, string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", err
	}
	name := strings.Trim(u.Path, "/")
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || name == "" || strings.Contains(name, "/") {
		return nil, "", fmt.Errorf("%q: want https://HOST[:PORT]/BUCKET", address)
	}
	c, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewEnvAWS(), Secure: u.Scheme == "https"})
	if err != nil {
		return nil, "", fmt.Errorf("store %s: %w", u.Host, err)
	}
	return c, name, nil
}
