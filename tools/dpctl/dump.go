// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dpservice/capture/receive"
)

const (
	unixPrefix = "unix:"
	// dumpPath is what a client POSTs to.
	dumpPath = "/dump"
	// dumpTimeout is how long a dump may take.
	dumpTimeout = time.Minute
	// maxDumpBody bounds what a client sends, such as Alertmanager's alerts, which nobody reads.
	maxDumpBody = 1 << 20
)

// ringFlag is the value of --ring.
type ringFlag receive.Memory

func (r *ringFlag) isSet() bool { return *r != ringFlag{} }

func (r *ringFlag) Type() string { return "time,bytes" }

func (r *ringFlag) String() string {
	var parts []string
	if r.Duration > 0 {
		parts = append(parts, r.Duration.String())
	}
	if r.Bytes > 0 {
		bytes := size(r.Bytes)
		parts = append(parts, bytes.String())
	}
	return strings.Join(parts, ",")
}

func (r *ringFlag) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		var bytes size
		if d, err := time.ParseDuration(part); err == nil && d > 0 {
			r.Duration = d
		} else if err := bytes.Set(part); err == nil {
			r.Bytes = int64(bytes)
		} else {
			return fmt.Errorf("%q is neither a time, such as 60s, nor a number of bytes, such as 1G", part)
		}
	}
	return nil
}

// triggers have a flight recorder write what it has, at a signal or a request.
type triggers struct {
	dumps   chan receive.Dump
	servers []*http.Server
	signals chan os.Signal
}

// openTriggers listens for SIGUSR1 and at the given places.
func openTriggers(places []string, stderr io.Writer) (*triggers, error) {
	t := &triggers{dumps: make(chan receive.Dump), signals: make(chan os.Signal, 1)}
	for _, place := range places {
		l, err := listenAt(place)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("--trigger: %w", err)
		}
		s := &http.Server{
			Handler: t.handler(), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14,
		}
		t.servers = append(t.servers, s)
		go func() { _ = s.Serve(l) }() // until close
	}
	signal.Notify(t.signals, syscall.SIGUSR1)
	go t.onSignals(stderr)
	return t, nil
}

func (t *triggers) close() {
	signal.Stop(t.signals)
	close(t.signals)
	for _, s := range t.servers {
		_ = s.Close() // requests under way get no answer: the reception has ended
	}
}

// listenAt listens at unix:PATH, or at an address of this machine alone.
func listenAt(place string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(place, unixPrefix); ok {
		return receive.ListenUnix(path)
	}
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "http" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("want unix:PATH or http://127.0.0.1:PORT, not %q", place)
	}
	at, err := netip.ParseAddrPort(u.Host)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("%q is no loopback address with a port: others could trigger, too", u.Host)
	}
	return net.Listen("tcp", at.String())
}

func (t *triggers) onSignals(stderr io.Writer) {
	for range t.signals {
		ctx, cancel := context.WithTimeout(context.Background(), dumpTimeout)
		d := t.dump(ctx)
		cancel()
		inTime(func() { fmt.Fprintln(stderr, dumpText(d)) })
	}
}

func dumpText(d receive.Dumped) string {
	if d.Err != nil {
		return "dpctl: " + d.Err.Error()
	}
	return fmt.Sprintf("%d copies written to %s", d.Packets, d.File)
}

// dump asks the reception for a dump.
func (t *triggers) dump(ctx context.Context) receive.Dumped {
	result := make(chan receive.Dumped, 1)
	select {
	case t.dumps <- func(d receive.Dumped) { result <- d }:
	case <-ctx.Done():
		return receive.Dumped{Err: errors.New("the reception did not answer in time")}
	}
	return <-result
}

// dumpAnswer is the answer to a POST.
type dumpAnswer struct {
	File    string `json:"file,omitempty"`
	Packets uint64 `json:"packets"`
	Error   string `json:"error,omitempty"`
}

func (t *triggers) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+dumpPath, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxDumpBody)) // whatever it says
		ctx, cancel := context.WithTimeout(r.Context(), dumpTimeout)
		defer cancel()
		d := t.dump(ctx)
		answer := dumpAnswer{File: d.File, Packets: d.Packets}
		w.Header().Set("Content-Type", "application/json")
		if d.Err != nil {
			answer.Error = d.Err.Error()
			w.WriteHeader(http.StatusInternalServerError)
		}
		_ = json.NewEncoder(w).Encode(answer) // to a client that is gone
	})
	return mux
}

func captureDump() *cobra.Command {
	return &cobra.Command{
		Use:   "dump unix:PATH|http://127.0.0.1:PORT",
		Short: "Have a flight recorder write what it has in memory",
		Long: `Have a dpctl capture receive --ring of this machine write the copies that it has in memory into a file, and print the file's
name. The argument is one of its --trigger.`,
		Example: `  dpctl capture receive --udp-dst-port=3010 -w fault.pcapng --ring=60s --trigger=unix:/run/fault.sock &
  dpctl capture dump unix:/run/fault.sock`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := requestDump(cmd.Context(), args[0])
			if err != nil {
				return failure{err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d copies written to %s\n", d.Packets, d.File)
			return err
		},
	}
}

// requestDump does what the command asks for.
func requestDump(ctx context.Context, place string) (dumpAnswer, error) {
	var answer dumpAnswer
	transport, target := &http.Transport{}, strings.TrimSuffix(place, "/")+dumpPath
	if path, ok := strings.CutPrefix(place, unixPrefix); ok {
		target = "http://unix" + dumpPath
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(nil))
	if err != nil {
		return answer, err
	}
	client := http.Client{Transport: transport, Timeout: dumpTimeout}
	response, err := client.Do(request)
	if err != nil {
		return answer, fmt.Errorf("no flight recorder at %s (is dpctl capture receive --ring running, with this --trigger?): %w",
			place, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("what answers at %s is no flight recorder: %s", place, response.Status)
	}
	if answer.Error != "" {
		return answer, errors.New(answer.Error)
	}
	return answer, nil
}
