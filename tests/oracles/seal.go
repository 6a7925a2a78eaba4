package main

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"os"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"
)

// A writer of sealed items: the other half of docs/format.md.

// Recipient is somebody to seal for, under a name for people.
type Recipient struct {
	age.Recipient
	name, text string
}

func (r Recipient) hybrid() bool { return strings.HasPrefix(r.text, "age1pq1") }

var (
	nameGrammar = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	notNames    = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)

// readRecipients reads recipients, one a line, each with a line "# name: NAME" before it or else named by its fingerprint.
func readRecipients(path string) ([]Recipient, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []Recipient
	name := ""
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := lines.Text()
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fail(malformed, "%s is not printable ASCII", path)
		}
		if given, found := strings.CutPrefix(line, "# name:"); found {
			name = strings.TrimSpace(given)
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRecipient(line)
		if err != nil {
			return nil, err
		}
		r.name = name
		if name == "" {
			r.name = fingerprint(r.text)
		}
		name = ""
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return out, checkRecipients(out)
}

func checkRecipients(recipients []Recipient) error {
	if len(recipients) == 0 || len(recipients) > maxLines {
		return fail(limitExceeded, "%d recipients; from 1 to %d will do", len(recipients), maxLines)
	}
	names := map[string]string{}
	for i, r := range recipients {
		fp := fingerprint(r.text)
		if !nameGrammar.MatchString(r.name) || slices.Contains(notNames, r.name) {
			return fail(malformed, "%q cannot name an envelope", r.name)
		}
		if names[r.name] != "" {
			return fail(malformed, "two recipients are called %q", r.name)
		}
		names[r.name] = fp
		if r.hybrid() != recipients[0].hybrid() {
			return fail(malformed, "hybrid and classical recipients of one data key")
		}
		for j, other := range recipients {
			if otherFP := fingerprint(other.text); i != j && (otherFP == fp || otherFP == r.name) {
				return fail(malformed, "%q and %q are one, or one is called by the fingerprint of the other", r.name, other.name)
			}
		}
	}
	return nil
}

// Manifest is a SealedSecret as it is written.
type Manifest struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Metadata   ManifestMetadata `json:"metadata"`
	Spec       ManifestSpec     `json:"spec"`
}

type ManifestMetadata struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

type ManifestSpec struct {
	Scope     string                  `json:"scope,omitempty"`
	Items     map[string]ManifestItem `json:"items"`
	Template  any                     `json:"template,omitempty"`
	Envelopes map[string]string       `json:"envelopes,omitempty"`
}

type ManifestItem struct {
	Sealed    string            `json:"sealed"`
	Envelopes map[string]string `json:"envelopes,omitempty"`
}

// seal seals values for a place: under one data key, or each under one of its own with its envelopes beside it.
func seal(recipients []Recipient, namespace, name, scope string, values map[string][]byte, each bool) (*Manifest, error) {
	if err := checkPlace(scope, namespace, name); err != nil {
		return nil, err
	}
	if each && len(values) > maxDataKeys/2 {
		return nil, fail(limitExceeded, "more than %d data keys", maxDataKeys/2)
	}
	m := &Manifest{"bulla.dev/v1alpha1", "SealedSecret", ManifestMetadata{name, namespace},
		ManifestSpec{Scope: scope, Items: map[string]ManifestItem{}}}
	var dek []byte
	var lines map[string]string
	for _, key := range sortedKeys(values) {
		if !validKey(key) {
			return nil, fail(malformed, "item key %q", key)
		}
		if dek == nil || each {
			dek = random(32)
			lines = map[string]string{}
			for _, r := range recipients {
				file, err := wrap(dek, r)
				if err != nil {
					return nil, err
				}
				lines[r.name] = envelope(dek, r.text, file)
			}
		}
		item := ManifestItem{Sealed: sealItem(dek, context(scope, namespace, name, key), random(12), body(values[key]))}
		if each {
			item.Envelopes = lines
		} else {
			m.Spec.Envelopes = lines
		}
		m.Spec.Items[key] = item
	}
	return m, nil
}

// wrap encrypts a data key to one recipient: an age file with a payload of 48 bytes.
func wrap(dek []byte, r age.Recipient) ([]byte, error) {
	return encrypt(slices.Concat(magic, dek), r)
}

func envelope(dek []byte, recipient string, file []byte) string {
	return dataKeyID(extract(dek)) + ":" + fingerprint(recipient) + ":" + b64.EncodeToString(file)
}

// body is the value with its length before it and zeros behind it.
func body(value []byte) []byte {
	out := make([]byte, bodyLen(len(value)))
	copy(out, u32(len(value)))
	copy(out[4:], value)
	return out
}

func sealItem(dek, ctx, nonce, body []byte) string {
	prk := extract(dek)
	gcm := must(cipher.NewGCM(must(aes.NewCipher(itemKey(prk, ctx)))))
	item := slices.Concat([]byte{1}, tag(ctx), nonce, gcm.Seal(nil, nonce, body, ctx))
	return dataKeyID(prk) + ":" + b64.EncodeToString(item)
}

func random(n int) []byte {
	out := make([]byte, n)
	must(rand.Read(out))
	return out
}
