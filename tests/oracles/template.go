package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// A Rendering is one template and what Go makes of it. Texts are bytes in base64 where JSON would change them.
type Rendering struct {
	Template string            `json:"template"`
	Items    map[string]string `json:"items,omitempty"`
	Output   *string           `json:"output,omitempty"`
	Bytes    []byte            `json:"bytes,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// render renders JSON lines. Items are text; the template's own name is "t".
func render(w io.Writer, r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var one Rendering
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return err
		}
		one.Output, one.Bytes, one.Error = nil, nil, ""
		one.run()
		if err := encoder.Encode(one); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

func (r *Rendering) run() {
	defer func() {
		if p := recover(); p != nil {
			r.Error = "execution"
		}
	}()
	parsed, err := template.New("t").Option("missingkey=error").Funcs(sprig.TxtFuncMap()).Parse(r.Template)
	if err != nil {
		r.Error = "syntax"
		return
	}
	items := map[string]any{}
	for key, value := range r.Items {
		items[key] = value
	}
	out := &limited{left: 1 << 20}
	if err := parsed.Execute(out, items); err != nil {
		r.Error = "execution"
		return
	}
	text := out.String()
	var again string
	encoded, err := json.Marshal(text)
	if err == nil && json.Unmarshal(encoded, &again) == nil && again == text {
		r.Output = &text
	} else {
		r.Bytes = out.Bytes()
	}
}

// limited is a buffer that takes so much and no more.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("too much output")
	}
	return l.Buffer.Write(p)
}
