// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/state"
	"dpservice/dpservice/vnet"
)

// virtualNetworks are the interfaces and routes that clients create.
type virtualNetworks interface {
	CreateInterface(vnet.CreateRequest) (vnet.Interface, error)
	DeleteInterface(id string) error
	Interface(id string) (vnet.Interface, error)
	Interfaces() []vnet.Interface
	AddRoute(vnet.Route) error
	DeleteRoute(vnet.Route) error
	Routes() []vnet.Route
	// Reserve keeps an underlay address for an interface that is not there, Release ends that.
	Reserve(id string, underlay netip.Addr)
	Release(id string)
}

// openState opens the store, if there is a folder for one: the configuration's, or else the one that systemd has made.
func (d *daemon) openState() (err error) {
	dir := cmp.Or(d.cfg.State, os.Getenv("STATE_DIRECTORY"))
	if dir == "" {
		return nil
	}
	if d.store, err = state.Open(dir); err != nil {
		return err
	}
	d.cleanups.add("close the state", d.store.Close)
	return nil
}

// restore creates what was there before the daemon ended: interfaces, routes, and captures.
func (d *daemon) restore() error {
	if d.store == nil {
		d.networks, d.captures = d.interfaces(), d.capture
		return nil
	}
	captures := &keptCaptures{
		captures: d.capture, store: d.store, audit: d.audit, vniOf: d.vniOf, log: d.log, now: time.Now,
		records: map[string]state.Capture{}, restoreErrs: map[string]error{},
	}
	networks := &keptNetworks{virtualNetworks: d.interfaces(), store: d.store, onDelete: captures.Checkpoint}
	d.networks, d.captures = networks, captures
	if err := networks.restore(d.log); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := captures.restore(ctx); err != nil {
		cancel()
		return err
	}
	var tasks tasks
	tasks.start(func() { d.fence.Run(ctx, "state", captures.Run) })
	d.cleanups.add("keep the captures' counters", func() error {
		cancel()
		tasks.wait()
		return captures.Checkpoint()
	})
	return nil
}

// keptNetworks keeps what is created in the store, before it is answered. A change that cannot be kept fails.
type keptNetworks struct {
	virtualNetworks
	store    *state.Store
	onDelete func() error // keeps what the end of an interface has changed elsewhere

	mu sync.Mutex // one change at a time, so that the store has them in the same order
}

// CreateInterface implements virtualNetworks.
func (k *keptNetworks) CreateInterface(req vnet.CreateRequest) (vnet.Interface, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	created, err := k.virtualNetworks.CreateInterface(req)
	if err != nil {
		return vnet.Interface{}, err
	}
	if err := k.store.Interfaces.Put(created.ID, recordOf(created)); err != nil {
		return vnet.Interface{}, errors.Join(err, k.virtualNetworks.DeleteInterface(created.ID))
	}
	k.Release(created.ID)
	return created, nil
}

// DeleteInterface implements virtualNetworks. It also deletes one that could not be restored.
func (k *keptNetworks) DeleteInterface(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := forget(k.virtualNetworks.DeleteInterface(id), k.store.Interfaces, id); err != nil {
		return err
	}
	k.Release(id)
	return k.onDelete()
}

// AddRoute implements virtualNetworks.
func (k *keptNetworks) AddRoute(r vnet.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.virtualNetworks.AddRoute(r); err != nil {
		return err
	}
	if err := k.store.Routes.Put(routeKey(r), state.Route(r)); err != nil {
		return errors.Join(err, k.virtualNetworks.DeleteRoute(r))
	}
	return nil
}

// DeleteRoute implements virtualNetworks. It also deletes one that could not be restored.
func (k *keptNetworks) DeleteRoute(r vnet.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return forget(k.virtualNetworks.DeleteRoute(r), k.store.Routes, routeKey(r))
}

func routeKey(r vnet.Route) string { return state.RouteKey(r.VNI, r.Prefix) }

// forget removes from the store what was deleted. deleted is how that went: what is not there may still be in the
// store.
func forget[T any](deleted error, table state.Table[T], key string) error {
	if deleted != nil && !fault.Is(deleted, fault.NotFound) {
		return deleted
	}
	found, err := table.Delete(key)
	switch {
	case err != nil:
		return fmt.Errorf("it is deleted, but will be there again after a restart: %w", err)
	case found:
		return nil
	default:
		return deleted
	}
}

// restore creates what the store has. What cannot be created, as its port is gone, say, stays in the store for the next
// start, and an interface's underlay address is given to no other meanwhile.
func (k *keptNetworks) restore(log *slog.Logger) error {
	interfaces, err := k.store.Interfaces.All()
	if err != nil {
		return err
	}
	routes, err := k.store.Routes.All()
	if err != nil {
		return err
	}
	failed := 0
	check := func(err error, what ...any) {
		if err != nil {
			failed++
			log.Warn("not restored, but kept for the next start", append(what, "err", err)...)
		}
	}
	for _, i := range interfaces {
		_, err := k.virtualNetworks.CreateInterface(requestOf(i))
		check(err, "interface", i.ID)
		if err != nil {
			k.Reserve(i.ID, i.UnderlayIP)
		}
	}
	for _, r := range routes {
		check(k.virtualNetworks.AddRoute(vnet.Route(r)), "vni", r.VNI, "route", r.Prefix)
	}
	log.Info("the state is restored", "interfaces", len(interfaces), "routes", len(routes), "failed", failed)
	return nil
}

func recordOf(i vnet.Interface) state.Interface {
	return state.Interface{
		ID: i.ID, Device: i.Device, VNI: i.VNI, IPv4: i.IPv4, IPv6: i.IPv6, UnderlayIP: i.UnderlayIP,
		Hostname: i.Hostname, PXEServer: i.PXE.Server, PXEFile: i.PXE.Filename,
	}
}

// requestOf has the interface's underlay address, so that it gets the same again.
func requestOf(i state.Interface) vnet.CreateRequest {
	return vnet.CreateRequest{
		ID: i.ID, Device: i.Device, VNI: i.VNI, IPv4: i.IPv4, IPv6: i.IPv6, UnderlayIP: i.UnderlayIP,
		Hostname: i.Hostname, PXE: vnet.PXE{Server: i.PXEServer, Filename: i.PXEFile},
	}
}
