// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"

	"dpservice/rpc/api"
	rpcclient "dpservice/rpc/client"
)

// Probe asks the socket, as any client does, what runs there. It returns nil if the server answers.
func (l *Listener) Probe(ctx context.Context) error {
	if _, err := rpcclient.Call(ctx, l.path, api.MethodSystemInfo, api.None{}); err != nil {
		return fmt.Errorf("the socket does not answer: %w", err)
	}
	return nil
}
