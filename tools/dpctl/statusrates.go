// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"time"

	"dpservice/rpc/api"
)

// maxBars is how many looks a drawing of a rate shows.
const maxBars = 30

// rateHistory draws the rates of captures, from one look at them to the next. The zero value has seen nothing.
type rateHistory struct {
	at     time.Time
	points map[string]*pointHistory
}

// pointHistory is what is known of one direction of a captured interface.
type pointHistory struct {
	last api.CaptureInterface
	rate rate
	past []float64 // packets per second, at most maxBars of them
}

func pointKey(session string, i api.CaptureInterface) string { return session + "/" + pointName(i) }

// look takes the counters of a status. It forgets captures that are gone.
func (h *rateHistory) look(now time.Time, status api.CaptureStatusResult) {
	p := period(now.Sub(h.at).Seconds())
	before := h.points
	h.at, h.points = now, make(map[string]*pointHistory)
	for _, s := range status.Sessions {
		for _, i := range s.Interfaces {
			key := pointKey(s.Name, i)
			point := before[key]
			if point == nil {
				h.points[key] = &pointHistory{last: i}
				continue
			}
			point.rate = p.rate(point.last.Packets, i.Packets, point.last.Bytes, i.Bytes)
			point.past = append(point.past, point.rate.packets)
			point.past = point.past[max(0, len(point.past)-maxBars):]
			point.last = i
			h.points[key] = point
		}
	}
}

// columns are the rate of a point and its drawing: empty before the second look.
func (h *rateHistory) columns(session string, i api.CaptureInterface) []any {
	point := h.points[pointKey(session, i)]
	if point == nil || len(point.past) == 0 {
		return []any{"", "", ""}
	}
	return []any{si(point.rate.packets), si(point.rate.bits), bars(point.past)}
}

// bars draws numbers as bars, of which the largest is full.
func bars(numbers []float64) string {
	const eighths = "▁▂▃▄▅▆▇█"
	levels := []rune(eighths)
	largest := slices.Max(numbers)
	var text strings.Builder
	for _, n := range numbers {
		if n <= 0 || largest <= 0 {
			text.WriteRune(' ')
			continue
		}
		text.WriteRune(levels[int(n/largest*float64(len(levels)-1)+0.5)])
	}
	return text.String()
}
