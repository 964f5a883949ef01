// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// endTimeout is how long a process may take to end after SIGTERM before it is killed. A daemon has many packet sockets,
// and on a busy machine the kernel takes seconds to close each: it waits for an RCU grace period.
const endTimeout = 20 * time.Second

// Process is a command that the lab started.
type Process struct {
	Stdout, Stderr *Output

	lab  *Lab
	argv []string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of cmd.Wait; read after done
}

// Result is the output and the exit code of a command that has ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Output is the text that a process has written so far.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts argv in a namespace ("" is the host's own).
func (l *Lab) start(namespace string, stdin io.Reader, argv ...string) (*Process, error) {
	full := inNamespace(namespace, argv)
	p := &Process{
		Stdout: &Output{}, Stderr: &Output{}, lab: l, argv: argv,
		cmd:  exec.Command(full[0], full[1:]...),
		done: make(chan struct{}),
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, p.Stdout, p.Stderr
	p.cmd.Env = append(cleanEnviron(), "RUNTIME_DIRECTORY="+l.dir) // where EAL puts its files
	// The process gets its own group, so that a terminal's Ctrl-C does not end it before the lab does. The death signal
	// ends it if this process is killed.
	p.cmd.WaitDelay = time.Second // for descendants that keep the output open
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	l.processes = append(l.processes, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
		l.forget(p)
	}()
	return p, nil
}

// cleanEnviron returns this process's environment without variables that would configure dpservice. Messages are in
// English, and a Go program that crashes prints the stacks of all threads.
func cleanEnviron() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DPSERVICE_") })
	return append(env, "LC_ALL=C", "GOTRACEBACK=crash")
}

func inNamespace(namespace string, argv []string) []string {
	if namespace == "" {
		return argv
	}
	return append([]string{"ip", "netns", "exec", namespace}, argv...)
}

// forget removes an ended process from the list of processes that Close ends.
func (l *Lab) forget(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = slices.DeleteFunc(l.processes, func(q *Process) bool { return q == p })
}

// run starts argv and waits for its end. It returns an error if the command could not be started or did not end in
// time. The command's own failure is in the Result.
func (l *Lab) run(ctx context.Context, namespace string, stdin io.Reader, argv ...string) (Result, error) {
	p, err := l.start(namespace, stdin, argv...)
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Run runs argv on the host, outside the lab's namespaces, with this standard input, and waits for its end.
func (l *Lab) Run(ctx context.Context, stdin string, argv ...string) (Result, error) {
	return l.run(ctx, "", strings.NewReader(stdin), argv...)
}

// CommandLine returns the command line for the host.
func (p *Process) CommandLine() string { return strings.Join(p.cmd.Args, " ") }

// Pid returns the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the process's end. If ctx ends first, Wait kills the process.
func (p *Process) Wait(ctx context.Context) (Result, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		if err := p.end(); err != nil {
			return Result{}, err
		}
		return Result{}, fmt.Errorf("%s did not end in time: %w", strings.Join(p.argv, " "), ctx.Err())
	}
	return p.result()
}

// Stop sends sig and waits for the end.
func (p *Process) Stop(ctx context.Context, sig syscall.Signal) (Result, error) {
	if err := p.Signal(sig); err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Signal sends sig to the process and its descendants. It does nothing if the process has already ended.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := syscall.Kill(-p.Pid(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to %s: %w", sig, p.argv[0], err)
	}
	return nil
}

// WaitOutput waits until the process has written text to out (its Stdout or Stderr).
func (p *Process) WaitOutput(ctx context.Context, out *Output, text string) error {
	return Until(ctx, func() error {
		if strings.Contains(out.String(), text) {
			return nil
		}
		select {
		case <-p.done:
			return Permanent(fmt.Errorf("%s ended without saying %q: %s", p.argv[0], text, p.Stderr))
		default:
			return fmt.Errorf("%s has not said %q", p.argv[0], text)
		}
	})
}

// end sends SIGTERM to the process, and kills it if it does not end in time.
func (p *Process) end() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(endTimeout):
	}
	if errors.Is(syscall.Kill(-p.Pid(), 0), syscall.ESRCH) {
		<-p.done // it has just ended
		return nil
	}
	stuck := p.threads()
	// On SIGABRT, a Go program prints the stack of each goroutine.
	for _, sig := range []syscall.Signal{syscall.SIGABRT, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil {
			return err
		}
		select {
		case <-p.done:
		case <-time.After(time.Second):
		}
	}
	<-p.done
	return fmt.Errorf("%s (pid %d) ignored SIGTERM and was killed; its threads were:\n%sit said: %s", p.argv[0], p.Pid(),
		stuck, p.Stderr)
}

// threads describes each thread of the process: name, state, the system call with its arguments or "running", and the
// stack in the kernel.
func (p *Process) threads() string {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.Pid()))
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, task := range tasks {
		for _, file := range []string{"stat", "syscall", "stack"} {
			content, err := os.ReadFile(filepath.Join(task, file))
			if err != nil {
				content = []byte(err.Error() + "\n")
			}
			text.Write(content)
		}
	}
	return text.String()
}

func (p *Process) result() (Result, error) {
	r := Result{Stdout: p.Stdout.String(), Stderr: p.Stderr.String(), Code: p.cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) && !errors.Is(p.err, exec.ErrWaitDelay) {
		return r, fmt.Errorf("running %s: %w", p.argv[0], p.err)
	}
	return r, nil
}

// Err returns nil if the command exited with 0, otherwise an error with its output.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	said := strings.TrimSpace(r.Stderr)
	if said == "" {
		said = strings.TrimSpace(r.Stdout)
	}
	return fmt.Errorf("exit code %d: %s", r.Code, said)
}
