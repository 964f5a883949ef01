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

// endTimeout is how long a process may take to end after SIGTERM before it is killed. On a busy machine the kernel
// takes seconds to close a packet socket, and a daemon has many: each waits for RCU's grace period.
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

// Result is what a command that ran to its end has said.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Output is what a process has written so far.
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

// start runs argv in a namespace ("" is the host's own).
func (l *Lab) start(namespace string, stdin io.Reader, argv ...string) (*Process, error) {
	full := inNamespace(namespace, argv)
	p := &Process{
		Stdout: &Output{}, Stderr: &Output{}, lab: l, argv: argv,
		cmd:  exec.Command(full[0], full[1:]...),
		done: make(chan struct{}),
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, p.Stdout, p.Stderr
	p.cmd.Env = append(cleanEnviron(), "RUNTIME_DIRECTORY="+l.dir) // where EAL puts its files
	// A group of its own keeps a terminal's Ctrl-C from ending it before the lab does; the death signal ends it
	// when this process is killed and cannot.
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

// cleanEnviron is this process's environment without what would configure dpservice behind the lab's back, and
// with messages in English. Go programs that crash tell of all threads, of those that run, too.
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

// forget drops a process that has ended from the list that Close works through.
func (l *Lab) forget(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = slices.DeleteFunc(l.processes, func(q *Process) bool { return q == p })
}

// run starts argv and waits for its end. The error tells of a command that could not be run or did not end in
// time; its own failure is in the Result.
func (l *Lab) run(ctx context.Context, namespace string, stdin io.Reader, argv ...string) (Result, error) {
	p, err := l.start(namespace, stdin, argv...)
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Run runs argv on the host itself, outside the lab's namespaces, feeds it stdin and waits for its end.
func (l *Lab) Run(ctx context.Context, stdin string, argv ...string) (Result, error) {
	return l.run(ctx, "", strings.NewReader(stdin), argv...)
}

// CommandLine is the command as one would type it on the host.
func (p *Process) CommandLine() string { return strings.Join(p.cmd.Args, " ") }

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the process's end. When ctx ends first the process is killed.
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

// Signal sends sig to the process and its descendants; to a process that has ended already it does nothing.
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

// end asks the process to end and kills it if it does not.
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
		<-p.done // it has ended, and this has not been noticed yet
		return nil
	}
	stuck := p.threads()
	// A Go program says now what each of its goroutines does.
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

// threads says of each of the process's threads what the kernel knows: name and state, the system call with its
// arguments or "running", and where in the kernel it is.
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

// Err is nil for a command that ended with 0, else an error that quotes what it said.
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
