package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The classes of errors. Vectors name them; people get them as the first word of a message.
const (
	malformed          = "malformed"
	unsupportedVersion = "unsupported-version"
	misplaced          = "misplaced"
	missingEnvelope    = "missing-envelope"
	limitExceeded      = "limit"
	decryptionFailed   = "decryption-failed"
)

type Error struct{ Class, Message string }

func (e *Error) Error() string { return e.Class + ": " + e.Message }

func fail(class, format string, args ...any) error {
	return &Error{class, fmt.Sprintf(format, args...)}
}

var errDecrypt = fail(decryptionFailed, "does not decrypt")

// class is the class of an error, "" if it has none.
func class(err error) string {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Class
	}
	return ""
}

type SealedSecret struct {
	Namespace, Name, Scope string
	Items                  map[string]Item
	Envelopes              map[string]string
	Template               Template
}

type Item struct {
	Sealed    string
	Envelopes map[string]string // nil: those of the SealedSecret
}

type Template struct {
	Type                string
	Immutable           bool
	Labels, Annotations map[string]string
}

var (
	keyGrammar   = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
	labelGrammar = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// A subdomain, with its length of at most 253 checked beside it.
	subdomainGrammar = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func validKey(key string) bool {
	return keyGrammar.MatchString(key) && key != "." && !strings.HasPrefix(key, "..")
}

func checkPlace(scope, namespace, name string) error {
	switch {
	case scope != "strict" && scope != "namespace-wide" && scope != "cluster-wide":
		return fail(malformed, "scope %q", scope)
	case namespace == "" && scope != "cluster-wide", namespace != "" && !labelGrammar.MatchString(namespace):
		return fail(malformed, "namespace %q", namespace)
	case name == "" && scope == "strict", name != "" && (len(name) > 253 || !subdomainGrammar.MatchString(name)):
		return fail(malformed, "name %q", name)
	}
	return nil
}

const (
	maxSize     = 1468006 // 1.4 MiB, in whole bytes
	maxDataKeys = 128     // for a reader; a writer stops at 64
	maxLines    = 16
)

// parse reads a SealedSecret from JSON and checks all that can be checked of its structure. The texts of items and
// envelopes are checked where they are used.
func parse(input []byte) (*SealedSecret, error) {
	tree, err := strictJSON(input)
	if err != nil {
		return nil, fail(malformed, "%v", err)
	}
	// A field of the wrong kind anywhere below panics with an error of its own: there are many, and they are all alike.
	var s SealedSecret
	err = func() (err error) {
		defer func() {
			switch e := recover().(type) {
			case nil:
			case *Error:
				err = e
			default:
				panic(e)
			}
		}()
		s = read(tree)
		return nil
	}()
	if err != nil {
		return nil, err
	}
	if err := checkPlace(s.Scope, s.Namespace, s.Name); err != nil {
		return nil, err
	}
	for key := range s.Items {
		if !validKey(key) {
			return nil, fail(malformed, "item key %q", key)
		}
	}
	return &s, s.checkLimits(tree.(map[string]any))
}

func (s *SealedSecret) checkLimits(tree map[string]any) error {
	ids := map[string]bool{}
	used := map[string]map[string]string{"": nil}
	extra := 0
	charge := func(lines map[string]string) {
		for name := range lines {
			extra += 2 * (len(name) + 32)
		}
	}
	charge(s.Envelopes)
	for key, item := range s.Items {
		id, _, _ := strings.Cut(item.Sealed, ":")
		ids[id] = true
		extra += 2 * (len(key) + 32)
		charge(item.Envelopes)
		if item.Envelopes != nil {
			used[key] = item.Envelopes
		} else {
			used[""] = s.Envelopes
		}
	}
	for _, lines := range used {
		if len(lines) > maxLines {
			return fail(limitExceeded, "more than %d recipients", maxLines)
		}
	}
	if len(ids) > maxDataKeys {
		return fail(limitExceeded, "more than %d data keys", maxDataKeys)
	}
	delete(tree, "status")
	delete(tree["metadata"].(map[string]any), "managedFields")
	var compact bytes.Buffer
	encoder := json.NewEncoder(&compact)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(tree); err != nil {
		return err
	}
	if compact.Len()-1+extra > maxSize {
		return fail(limitExceeded, "larger than %d bytes", maxSize)
	}
	return nil
}

func read(tree any) (s SealedSecret) {
	object := fields(tree, "the document")
	if object["apiVersion"] != "bulla.dev/v1alpha1" || object["kind"] != "SealedSecret" {
		panic(fail(malformed, "not a SealedSecret of bulla.dev/v1alpha1"))
	}
	metadata := fields(object["metadata"], "metadata")
	s.Namespace = text(metadata, "namespace", "")
	s.Name = text(metadata, "name", "")
	spec := fields(object["spec"], "spec")
	s.Scope = text(spec, "scope", "strict")
	s.Items = map[string]Item{}
	for key, v := range fields(spec["items"], "items") {
		item := fields(v, key)
		only(item, "sealed", "envelopes")
		if _, found := item["sealed"]; !found {
			panic(fail(malformed, "%s has no field sealed", key))
		}
		s.Items[key] = Item{text(item, "sealed", ""), texts(item, "envelopes")}
		if _, found := item["envelopes"]; found && len(s.Items[key].Envelopes) == 0 {
			panic(fail(malformed, "%s has empty envelopes", key))
		}
	}
	s.Envelopes = texts(spec, "envelopes")
	s.Template.Type = "Opaque"
	if v, found := spec["template"]; found {
		template := fields(v, "template")
		only(template, "metadata", "type", "immutable", "data")
		if kind := text(template, "type", ""); kind != "" {
			s.Template.Type = kind
		}
		if v, found := template["immutable"]; found {
			var ok bool
			if s.Template.Immutable, ok = v.(bool); !ok {
				panic(fail(malformed, "immutable is not true or false"))
			}
		}
		if v, found := template["metadata"]; found {
			metadata := fields(v, "template.metadata")
			only(metadata, "labels", "annotations")
			s.Template.Labels = texts(metadata, "labels")
			s.Template.Annotations = texts(metadata, "annotations")
		}
		if len(texts(template, "data")) != 0 {
			panic(fail(malformed, "template.data is reserved"))
		}
	}
	return s
}

func fields(v any, what string) map[string]any {
	object, ok := v.(map[string]any)
	if !ok {
		panic(fail(malformed, "%s is not an object", what))
	}
	return object
}

func only(object map[string]any, known ...string) {
	for key := range object {
		if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+key+" ") {
			panic(fail(malformed, "unknown field %q", key))
		}
	}
}

func text(object map[string]any, key, absent string) string {
	v, found := object[key]
	if !found {
		return absent
	}
	s, ok := v.(string)
	if !ok {
		panic(fail(malformed, "%s is not a string", key))
	}
	return s
}

func texts(object map[string]any, key string) map[string]string {
	v, found := object[key]
	if !found {
		return nil
	}
	out := map[string]string{}
	for k := range fields(v, key) {
		out[k] = text(v.(map[string]any), k, "")
	}
	return out
}

// strictJSON is encoding/json less its leniency: no duplicate keys, nothing after the document, only UTF-8.
func strictJSON(input []byte) (any, error) {
	if !utf8.Valid(input) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(input))
	d.UseNumber()
	v, err := strictValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the document")
	}
	return v, nil
}

func strictValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	object, list := map[string]any{}, []any{}
	for d.More() {
		var key string
		if delim == '{' {
			token, err := d.Token()
			if err != nil {
				return nil, err
			}
			key = token.(string)
			if _, found := object[key]; found {
				return nil, fmt.Errorf("%q occurs twice in one object", key)
			}
		}
		v, err := strictValue(d)
		if err != nil {
			return nil, err
		}
		if delim == '{' {
			object[key] = v
		} else {
			list = append(list, v)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if delim == '{' {
		return object, nil
	}
	return list, nil
}
