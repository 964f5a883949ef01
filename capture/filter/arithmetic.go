// SPDX-License-Identifier: Apache-2.0

package filter

// load identifies some bytes of a header.
type load struct {
	proto        string
	offset, size uint32
}

// operand is a number, or an expression over some bytes of a header. All numbers are unsigned and have 32 bits.
type operand struct {
	load  *load                     // nil for a number
	value func(bytes uint32) uint32 // the value of the expression; a number ignores bytes
	plain bool                      // the expression applies only a mask to the bytes
	mask  uint32
}

func constant(n uint32) operand { return operand{value: func(uint32) uint32 { return n }} }

func (o operand) number() uint32 { return o.value(0) }

// operators are the operators of numbers with their precedences. libpcap declares no precedence for those with 0: their
// right operand is everything that follows.
var operators = map[string]struct {
	precedence int
	apply      func(a, b uint32) uint32
}{
	"|":  {1, func(a, b uint32) uint32 { return a | b }},
	"&":  {2, func(a, b uint32) uint32 { return a & b }},
	"<<": {3, func(a, b uint32) uint32 { return a << b }},
	">>": {3, func(a, b uint32) uint32 { return a >> b }},
	"+":  {4, func(a, b uint32) uint32 { return a + b }},
	"-":  {4, func(a, b uint32) uint32 { return a - b }},
	"*":  {5, func(a, b uint32) uint32 { return a * b }},
	"/":  {5, func(a, b uint32) uint32 { return a / b }},
	"^":  {0, func(a, b uint32) uint32 { return a ^ b }},
	"%":  {0, func(a, b uint32) uint32 { return a % b }},
}

// arithmetic parses an expression of operators whose precedence is at least the given one.
func (p *parser) arithmetic(least int) (operand, error) {
	start := p.at
	left, err := p.operand()
	for err == nil {
		t, ok := p.peek()
		operator, found := operators[t.text]
		if !ok || t.word || !found || operator.precedence != 0 && operator.precedence < least {
			break
		}
		p.at++
		next := operator.precedence + 1
		if operator.precedence == 0 {
			next = 0
		}
		var right operand
		if right, err = p.arithmetic(next); err == nil {
			left, err = combine(left, t.text, right, p.here(start))
		}
	}
	return left, err
}

func combine(a operand, operator string, b operand, at location) (operand, error) {
	apply := operators[operator].apply
	o := operand{load: a.load, value: func(bytes uint32) uint32 { return apply(a.value(bytes), b.value(bytes)) }}
	if a.load == nil {
		o.load = b.load
	}
	divides := operator == "/" || operator == "%"
	switch {
	case divides && b.load != nil:
		return o, unsupported(at, "rules cannot divide by a header's bytes")
	case divides && b.number() == 0:
		return o, syntax(at, "division by zero")
	case (operator == "<<" || operator == ">>") && b.load == nil && b.number() > 31:
		return o, syntax(at, "a number has 32 bits")
	case a.load != nil && b.load != nil && *a.load != *b.load:
		return o, unsupported(at, "rules compare a header's bytes with a number, not with other bytes")
	case operator == "&" && a.plain && b.load == nil:
		o.plain, o.mask = true, a.mask&b.number()
	case operator == "&" && b.plain && a.load == nil:
		o.plain, o.mask = true, b.mask&a.number()
	}
	if o.load == nil { // a constant is calculated once
		return constant(o.number()), nil
	}
	return o, nil
}

func (p *parser) operand() (operand, error) {
	if p.depth++; p.depth > maxDepth {
		return operand{}, p.wrong("more than %d brackets and negations within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	start := p.at
	switch {
	case p.take("("):
		o, err := p.arithmetic(0)
		if err == nil && !p.take(")") {
			err = p.wrong("want a closing bracket")
		}
		return o, err
	case p.take("-"):
		o, err := p.operand()
		if err != nil {
			return o, err
		}
		return combine(constant(0), "-", o, p.here(start))
	}
	t, ok := p.peek()
	if !ok || !t.word {
		return operand{}, p.wrong("want a number or a header's bytes, such as tcp[tcpflags]")
	}
	p.at++
	if t.text == "len" && !t.name {
		return operand{}, unsupported(p.here(start), noLength)
	}
	if p.take("[") {
		return p.header(t.text, start)
	}
	if n, ok := constants[t.text]; ok {
		return constant(n), nil
	}
	n, err := number(t.text)
	if err != nil {
		p.at--
		return operand{}, p.wrong("%v", err)
	}
	return constant(n), nil
}

// header parses the offset and the size in square brackets.
func (p *parser) header(proto string, start int) (operand, error) {
	offset, err := p.arithmetic(0)
	if err != nil {
		return operand{}, err
	}
	size := constant(1)
	if p.take(":") {
		if size, err = p.arithmetic(0); err != nil {
			return operand{}, err
		}
	}
	if n := size.number(); size.load != nil || n != 1 && n != 2 && n != 4 {
		return operand{}, p.wrong("want an offset, and perhaps a size of 1, 2 or 4 bytes behind a colon")
	}
	if !p.take("]") {
		return operand{}, p.wrong("want a closing square bracket")
	}
	switch _, ok := readable[proto]; {
	case offset.load != nil:
		return operand{}, unsupported(p.here(start), "rules look at bytes at an offset that is a number")
	case links[proto]:
		proto = "ether"
	case !ok && isKeyword(proto):
		return operand{}, unsupported(p.here(start), "rules cannot look at the bytes of "+proto)
	case !ok:
		return operand{}, syntax(p.here(start), "there is no protocol %s", proto)
	}
	n := size.number()
	return operand{
		load: &load{proto, offset.number(), n}, value: func(bytes uint32) uint32 { return bytes },
		plain: true, mask: ^uint32(0) >> (32 - 8*n),
	}, nil
}
