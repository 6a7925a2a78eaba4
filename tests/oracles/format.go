package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// The computations of docs/format.md, "Computations". Everything else in this module is built from these.

var (
	magic = []byte("bulla/v1/dek\x00\x00\x00\x00") // begins every envelope's payload
	b32   = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	b64   = base64.StdEncoding.Strict()
)

func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// lp is LP(x): the length of x in four bytes, then x.
func lp(x string) []byte { return append(u32(len(x)), x...) }

// bound returns the namespace and name that a scope binds: what it does not bind is empty.
func bound(scope, namespace, name string) (string, string) {
	switch scope {
	case "strict":
		return namespace, name
	case "namespace-wide":
		return namespace, ""
	default:
		return "", ""
	}
}

// context is ctx: where an item belongs. It is the info of the item's key and its additional authenticated data.
func context(scope, namespace, name, key string) []byte {
	namespace, name = bound(scope, namespace, name)
	return slices.Concat(lp("bulla/v1/item"), lp(scope), lp(namespace), lp(name), lp(key))
}

// tag lets anybody see, without a key, whether an item stands where it was sealed for.
func tag(ctx []byte) []byte {
	sum := sha256.Sum256(append([]byte("bulla/v1/tag"), ctx...))
	return sum[:8]
}

func extract(dek []byte) []byte {
	return must(hkdf.Extract(sha256.New, dek, []byte("bulla/v1/dek")))
}

func dataKeyID(prk []byte) string {
	return "k" + b32.EncodeToString(must(hkdf.Expand(sha256.New, prk, "bulla/v1/id", 20)))
}

func itemKey(prk, ctx []byte) []byte {
	return must(hkdf.Expand(sha256.New, prk, string(ctx), 32))
}

func fingerprint(recipient string) string {
	sum := sha256.Sum256([]byte(recipient))
	return "r" + b32.EncodeToString(sum[:10])
}

// padme is the Padmé length of l, for l of at least 2.
func padme(l int) int {
	e := bits.Len(uint(l)) - 1
	s := bits.Len(uint(e))
	m := 1<<(e-s) - 1
	return (l + m) &^ m
}

// bodyLen is the length of the body that holds a value of n bytes.
func bodyLen(n int) int { return max(64, padme(4+n)) }

// pairs is M(map).
func pairs(m map[string]string) []byte {
	out := u32(len(m))
	for _, k := range sortedKeys(m) {
		out = append(append(out, lp(k)...), lp(m[k])...)
	}
	return out
}

// digest is the content digest: it changes with everything that decides what the Secret will be, and with nothing else.
func digest(s *SealedSecret) string {
	namespace, name := bound(s.Scope, s.Namespace, s.Name)
	var b bytes.Buffer
	for _, part := range []string{"bulla/v1/content", s.Scope, namespace, name} {
		b.Write(lp(part))
	}
	b.Write(u32(len(s.Items)))
	for _, key := range sortedKeys(s.Items) {
		b.Write(lp(key))
		b.Write(lp(s.Items[key].Sealed))
	}
	b.Write(lp(s.Template.Type))
	if s.Template.Immutable {
		b.WriteByte(1)
	} else {
		b.WriteByte(0)
	}
	b.Write(pairs(s.Template.Labels))
	b.Write(pairs(s.Template.Annotations))
	b.Write(pairs(nil)) // template.data: reserved, always empty
	sum := sha256.Sum256(b.Bytes())
	return "c" + b32.EncodeToString(sum[:])
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
