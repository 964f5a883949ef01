// SPDX-License-Identifier: Apache-2.0

package filter

import "strings"

// token is a word or a symbol of a filter.
type token struct {
	text     string
	from, to int // offsets in the filter
	word     bool
	name     bool // a word after a backslash, which is never a keyword
}

var symbols = []string{"&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "(", ")", "[", "]", "!", "=", "<", ">", "&", "|",
	"^", "+", "*", "/", "%", "-", ":"}

// synonyms maps symbols to the word or symbol with the same meaning.
var synonyms = map[string]string{"&&": "and", "||": "or", "!": "not", "==": "="}

// lex splits a filter into tokens. A colon is a token of its own in square brackets; elsewhere it is part of an
// address.
func lex(text string) ([]token, error) {
	if len(text) > MaxLength {
		return nil, &Error{Kind: Syntax, Why: "it is longer than 1024 bytes"}
	}
	var tokens []token
	brackets := 0
	for at := 0; at < len(text); {
		if strings.IndexByte(" \t\r\n", text[at]) >= 0 {
			at++
			continue
		}
		t := next(text, at, brackets > 0)
		if t.to == t.from {
			return nil, &Error{Kind: Syntax, Part: text[at:], Why: "this is not of the language"}
		}
		switch t.text {
		case "[":
			brackets++
		case "]":
			brackets--
		}
		at = t.to
		tokens = append(tokens, t)
	}
	return tokens, nil
}

func next(text string, at int, inBrackets bool) token {
	t := token{from: at, to: at, name: text[at] == '\\'}
	if t.name {
		at++
	}
	for at < len(text) && isWord(text, at, t.from, inBrackets) {
		at++
	}
	if at > t.from && text[t.from:at] != "\\" {
		t.to, t.word, t.text = at, true, strings.TrimPrefix(text[t.from:at], "\\")
		return t
	}
	for _, s := range symbols {
		if strings.HasPrefix(text[t.from:], s) {
			t.to, t.text = t.from+len(s), s
			if word, ok := synonyms[s]; ok {
				t.text = word
			}
			return t
		}
	}
	return t
}

func isWord(text string, at, from int, inBrackets bool) bool {
	c := text[at]
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '.':
		return true
	case c == '-':
		return at > from
	case c == ':':
		return !inBrackets
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
