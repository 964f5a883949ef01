// SPDX-License-Identifier: Apache-2.0

package main

import (
	"html/template"
	"io"
)

// bars is a chart of pairs of bars: a measured value, and its reference.
type bars struct {
	Title, Unit     string
	Value, Compared string // what the two bars of a pair are
	Rows            []bar
}

// bar is a pair of bars with a note behind them.
type bar struct {
	Label, Remark    string
	Value, Reference float64
}

// The dimensions of the chart, in pixels.
const (
	labelWidth = 320
	barWidth   = 420
	rowHeight  = 34
	headHeight = 60
)

// laidOut is a pair of bars with its position in the chart.
type laidOut struct {
	bar
	Y                     int
	Width, ReferenceWidth float64
}

func (b bars) Width() int  { return labelWidth + barWidth + 240 }
func (b bars) Height() int { return headHeight + rowHeight*len(b.Rows) + 10 }
func (b bars) Left() int   { return labelWidth }

// Places returns the pairs with their positions. The longest bar takes the whole width.
func (b bars) Places() []laidOut {
	most := 0.0
	for _, r := range b.Rows {
		most = max(most, r.Value, r.Reference)
	}
	places := make([]laidOut, len(b.Rows))
	for i, r := range b.Rows {
		places[i] = laidOut{r, headHeight + rowHeight*i, barWidth * r.Value / most, barWidth * r.Reference / most}
	}
	return places
}

// The values are numbers and texts of this program. html/template escapes the texts.
var barsSVG = template.Must(template.New("bars").Parse(`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="10" y="20" font-size="15">{{.Title}}</text>
<rect x="10" y="32" width="12" height="10" fill="#2b6cb0"/><text x="28" y="41">{{.Value}}</text>
<rect x="{{.Left}}" y="32" width="12" height="10" fill="#cbd5e0"/><text x="338" y="41">{{.Compared}}</text>
{{- $left := .Left}}{{$unit := .Unit}}
{{- range .Places}}
<g transform="translate(0,{{.Y}})">
<text x="10" y="17">{{.Label}}</text>
<rect x="{{$left}}" y="3" width="{{printf "%.1f" .Width}}" height="12" fill="#2b6cb0"/>
<rect x="{{$left}}" y="16" width="{{printf "%.1f" .ReferenceWidth}}" height="8" fill="#cbd5e0"/>
<text x="750" y="17">{{printf "%.2f" .Value}} {{$unit}}{{.Remark}}</text>
</g>
{{- end}}
</svg>
`))

func (b bars) write(w io.Writer) error { return barsSVG.Execute(w, b) }
