package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
)

// Vectors is tests/vectors/native.json. What is random in the format is given in it; what age makes random (identities
// and envelopes) is kept from the previous file, everything else is computed anew.
type Vectors struct {
	Format     string           `json:"format"`
	Comment    string           `json:"comment"`
	Identities []VectorIdentity `json:"identities"`
	DataKeys   []VectorDataKey  `json:"dataKeys"`
	Envelopes  []VectorEnvelope `json:"envelopes"`
	Bodies     [][2]int         `json:"bodyLengths"`
	Items      []VectorItem     `json:"items"`
	Objects    []VectorObject   `json:"objects"`
	Negative   []VectorNegative `json:"negative"`
}

type VectorIdentity struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Identity    string `json:"identity"`
	Recipient   string `json:"recipient"`
	Fingerprint string `json:"fingerprint"`
}

type VectorDataKey struct {
	Name string `json:"name"`
	DEK  string `json:"dek"`
	PRK  string `json:"prk"`
	ID   string `json:"id"`
}

// VectorEnvelope is a line, and what it should do in a reader that has the identity and looks for the data key.
type VectorEnvelope struct {
	Name     string `json:"name"`
	Identity string `json:"identity"`
	DataKey  string `json:"dataKey"`
	Text     string `json:"text"`
	Error    string `json:"error,omitempty"`
}

type VectorItem struct {
	Name      string      `json:"name"`
	DataKey   string      `json:"dataKey"`
	Scope     string      `json:"scope"`
	Namespace string      `json:"namespace"`
	Object    string      `json:"object"`
	Key       string      `json:"key"`
	Value     VectorValue `json:"value"`
	Nonce     string      `json:"nonce"`
	Ctx       string      `json:"ctx"`
	Tag       string      `json:"tag"`
	ItemKey   string      `json:"itemKey"`
	BodyLen   int         `json:"bodyLength"`
	Sealed    string      `json:"sealed,omitempty"`
	SealedSum string      `json:"sealedSha256,omitempty"`
}

// VectorValue is a value: its bytes, or the first Length bytes of SHA-256(seed || u32be(0)) || SHA-256(seed || u32be(1)) || …
type VectorValue struct {
	Base64 *[]byte `json:"base64,omitempty"`
	Seed   string  `json:"seed,omitempty"`
	Length int     `json:"length"`
}

func (v VectorValue) bytes() []byte {
	if v.Base64 != nil {
		return *v.Base64
	}
	return stream(v.Seed, v.Length)
}

type VectorObject struct {
	Name       string            `json:"name"`
	Comment    string            `json:"comment,omitempty"`
	Manifest   any               `json:"manifest"`
	Identities []string          `json:"identities"` // each of them opens it
	Values     map[string][]byte `json:"values"`
	Digest     string            `json:"digest"`
}

// VectorNegative is refused with this class of error by a reader with these identities, most preferred first.
type VectorNegative struct {
	Name       string   `json:"name"`
	Error      string   `json:"error"`
	Identities []string `json:"identities"`
	Manifest   any      `json:"manifest,omitempty"`
	Text       string   `json:"text,omitempty"` // where the fault is one of JSON
}

func stream(seed string, length int) []byte {
	var out []byte
	for i := 0; len(out) < length; i++ {
		sum := sha256.Sum256(append([]byte(seed), u32(i)...))
		out = append(out, sum[:]...)
	}
	return out[:length]
}

// maker holds what the vectors are built from.
type maker struct {
	Vectors
	old        *Vectors // nil: everything new
	recipients map[string]Recipient
	deks       map[string][]byte
	lines      map[string]string
	nonces     int
}

func makeVectors(old *Vectors) *Vectors {
	m := &maker{old: old, recipients: map[string]Recipient{}, deks: map[string][]byte{}, lines: map[string]string{}}
	m.Format = "bulla.dev/v1alpha1"
	m.Comment = "Made by tests/oracles (vectors). The identities are public: never seal for them."
	m.identity("prod", "hybrid")
	m.identity("recovery", "hybrid")
	m.identity("alice", "classical")
	m.identity("bob", "classical")
	m.identity("carol", "classical")
	for _, name := range []string{"hybrid", "classical", "own-hybrid", "own-classical", "stranger"} {
		m.dataKey(name)
	}
	m.makeEnvelopes()
	for _, n := range []int{0, 1, 59, 60, 61, 64, 68, 69, 100, 124, 125, 1000, 1020, 1021, 65532, 65533, 716800} {
		m.Bodies = append(m.Bodies, [2]int{n, bodyLen(n)})
	}
	m.makeItems()
	m.makeObjects()
	m.makeNegative()
	return &m.Vectors
}

func (m *maker) identity(name, kind string) {
	var file string
	if m.old != nil {
		i := slices.IndexFunc(m.old.Identities, func(v VectorIdentity) bool { return v.Name == name })
		file = m.old.Identities[i].Identity
	} else {
		file = must(keygen(kind))
		file = strings.Split(file, "\n")[1]
	}
	text := must(recipientsIn(file))[0]
	r := must(parseRecipient(text))
	r.name = name
	m.recipients[name] = r
	m.Identities = append(m.Identities, VectorIdentity{name, kind, file, text, fingerprint(text)})
}

func (m *maker) dataKey(name string) {
	dek := stream("bulla test data key "+name, 32)
	m.deks[name] = dek
	prk := extract(dek)
	m.DataKeys = append(m.DataKeys, VectorDataKey{name, hex.EncodeToString(dek), hex.EncodeToString(prk), dataKeyID(prk)})
}

// add records an envelope under a name: kept from the previous file, or made.
func (m *maker) add(name, identity, dataKey, class string, file func() []byte) {
	line := ""
	if m.old != nil {
		i := slices.IndexFunc(m.old.Envelopes, func(v VectorEnvelope) bool { return v.Name == name })
		line = m.old.Envelopes[i].Text
	} else {
		line = envelope(m.deks[dataKey], m.recipients[identity].text, file())
	}
	m.lines[name] = line
	m.Envelopes = append(m.Envelopes, VectorEnvelope{name, identity, dataKey, line, class})
}

func (m *maker) makeEnvelopes() {
	for _, pair := range []string{"hybrid prod", "hybrid recovery", "own-hybrid prod", "own-hybrid recovery",
		"classical alice", "classical bob", "own-classical alice", "own-classical bob", "stranger alice"} {
		key, who, _ := strings.Cut(pair, " ")
		m.add(key+"/"+who, who, key, "", func() []byte { return must(wrap(m.deks[key], m.recipients[who])) })
	}
	alice, good := m.recipients["alice"], slices.Concat(magic, m.deks["classical"])
	to := func(payload []byte, recipients ...age.Recipient) func() []byte {
		return func() []byte { return must(encrypt(payload, recipients...)) }
	}
	m.add("grease", "alice", "classical", "", to(good, extra{alice, "x-grease", []string{"and", "arguments"}, 100}))
	m.add("grease-hybrid", "prod", "hybrid", "",
		to(slices.Concat(magic, m.deks["hybrid"]), extra{m.recipients["prod"], "x-grease", nil, 0}))

	m.add("two-stanzas", "alice", "classical", malformed, to(good, alice, m.recipients["bob"]))
	m.add("foreign-stanza", "alice", "classical", malformed, to(good, extra{alice, "ssh-ed25519", []string{"AAAA"}, 32}))
	m.add("too-long", "alice", "classical", malformed, to(good, extra{alice, "x-grease", nil, 4000}))
	m.add("armored", "alice", "classical", malformed, func() []byte {
		text := b64.EncodeToString(must(encrypt(good, alice)))
		lines := slices.Collect(slices.Chunk([]byte(text), 64))
		return slices.Concat([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n"), bytes.Join(lines, []byte("\n")),
			[]byte("\n-----END AGE ENCRYPTED FILE-----\n"))
	})
	m.add("empty-file", "alice", "classical", malformed, func() []byte { return []byte("age-encryption.org/v1\n") })

	m.add("wrong-magic", "alice", "classical", decryptionFailed, to(slices.Concat([]byte("bulla/v2/dek\x00\x00\x00\x00"), m.deks["classical"]), alice))
	m.add("short-payload", "alice", "classical", decryptionFailed, to(good[:47], alice))
	m.add("long-payload", "alice", "classical", decryptionFailed, to(append(slices.Clone(good), 0), alice))
	m.add("empty-payload", "alice", "classical", decryptionFailed, to(nil, alice))
	m.add("other-data-key", "alice", "classical", decryptionFailed, to(slices.Concat(magic, m.deks["stranger"]), alice))
	m.add("for-bob", "alice", "classical", decryptionFailed, to(good, m.recipients["bob"]))
	m.add("hybrid-stanza", "alice", "classical", decryptionFailed, to(good, m.recipients["prod"]))
	base := to(good, alice)
	m.add("truncated", "alice", "classical", decryptionFailed, func() []byte { f := base(); return f[:len(f)-1] })
	m.add("trailing", "alice", "classical", decryptionFailed, func() []byte { return append(base(), 0) })
	m.add("header-mac", "alice", "classical", decryptionFailed, func() []byte {
		f := base()
		i := bytes.Index(f, []byte("\n--- ")) + 5
		f[i] = flipTo(f[i])
		return f
	})
}

// flipTo is A, or B where the letter is A already.
func flipTo(letter byte) byte {
	if letter == 'A' {
		return 'B'
	}
	return 'A'
}

// extra adds a stanza of another kind to a recipient's.
type extra struct {
	age.Recipient
	kind string
	args []string
	size int
}

func (e extra) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, err := e.Recipient.Wrap(fileKey)
	return append(stanzas, &age.Stanza{Type: e.kind, Args: e.args, Body: stream("grease", e.size)}), err
}

func (m *maker) nonce() []byte {
	m.nonces++
	return stream(fmt.Sprintf("bulla test nonce %d", m.nonces), 12)
}

// item makes a vector of an item, and returns its text.
func (m *maker) item(name, dataKey, scope, namespace, object, key string, value VectorValue) string {
	ctx, nonce, plain := context(scope, namespace, object, key), m.nonce(), value.bytes()
	text := sealItem(m.deks[dataKey], ctx, nonce, body(plain))
	v := VectorItem{Name: name, DataKey: dataKey, Scope: scope, Namespace: namespace, Object: object, Key: key, Value: value,
		Nonce: hex.EncodeToString(nonce), Ctx: hex.EncodeToString(ctx), Tag: hex.EncodeToString(tag(ctx)),
		ItemKey: hex.EncodeToString(itemKey(extract(m.deks[dataKey]), ctx)), BodyLen: bodyLen(len(plain)), Sealed: text}
	if len(text) > 4096 {
		sum := sha256.Sum256([]byte(text))
		v.Sealed, v.SealedSum = "", hex.EncodeToString(sum[:])
	}
	m.Items = append(m.Items, v)
	return text
}

func literal(value []byte) VectorValue { return VectorValue{Base64: &value, Length: len(value)} }

func seeded(length int) VectorValue {
	return VectorValue{Seed: fmt.Sprintf("bulla test value %d", length), Length: length}
}

func (m *maker) makeItems() {
	for _, scope := range []string{"strict", "namespace-wide", "cluster-wide"} {
		m.item("scope "+scope, "classical", scope, "shop", "db", "password", literal([]byte("correct horse battery staple")))
	}
	for _, n := range []int{0, 59, 60, 61, 100, 1000, 700 << 10} {
		m.item(fmt.Sprintf("%d bytes", n), "hybrid", "strict", "shop", "db", "password", seeded(n))
	}
	m.item("key with dots", "hybrid", "strict", "shop", "db.prod", ".dockerconfigjson", literal([]byte("{}")))
	m.item("zeros", "hybrid", "strict", "shop", "db", "password", literal(make([]byte, 61)))
	m.item("longest key", "hybrid", "strict", "shop", "db", strings.Repeat("k", 253), literal([]byte{0xff}))
}

// object is a SealedSecret in the making.
type object map[string]any

func (o object) at(path ...string) object {
	for _, key := range path {
		o = o[key].(object)
	}
	return o
}

// clone is a deep copy: each negative vector spoils its own.
func clone(v any) any {
	o, ok := v.(object)
	if !ok {
		return v
	}
	out := object{}
	for k, v := range o {
		out[k] = clone(v)
	}
	return out
}

func sealedSecret(namespace, name, scope string) object {
	metadata := object{"name": name}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	spec := object{"items": object{}}
	if scope != "" {
		spec["scope"] = scope
	}
	return object{"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "metadata": metadata, "spec": spec}
}

// common are the envelopes of a data key for some.
func (m *maker) common(dataKey string, who ...string) object {
	out := object{}
	for _, name := range who {
		out[name] = m.lines[dataKey+"/"+name]
	}
	return out
}

func (m *maker) makeObjects() {
	add := func(name, comment string, o object, identities []string, values map[string][]byte) {
		s := must(parse(must(json.Marshal(o))))
		m.Objects = append(m.Objects, VectorObject{name, comment, o, identities, values, digest(s)})
	}
	// put adds items to an object and returns their values.
	put := func(o object, dataKey string, values map[string]VectorValue) map[string][]byte {
		metadata := o.at("metadata")
		namespace, _ := metadata["namespace"].(string)
		scope, found := o.at("spec")["scope"].(string)
		if !found {
			scope = "strict"
		}
		out := map[string][]byte{}
		for _, key := range sortedKeys(values) {
			name := fmt.Sprintf("object %d, %s", len(m.Objects)+1, key)
			o.at("spec", "items")[key] = object{"sealed": m.item(name, dataKey, scope, namespace, metadata["name"].(string), key, values[key])}
			out[key] = values[key].bytes()
		}
		return out
	}

	o := sealedSecret("shop", "db", "")
	values := put(o, "hybrid", map[string]VectorValue{"empty": literal([]byte{}), "username": literal([]byte("shop")),
		"tls.crt": seeded(1000), ".hidden_key-1": seeded(61), "UPPER": literal([]byte("grüße\n"))})
	o.at("spec")["envelopes"] = m.common("hybrid", "prod", "recovery")
	add("strict, hybrid", "scope absent means strict", o, []string{"prod", "recovery"}, values)

	o = sealedSecret("shop", "db", "namespace-wide")
	values = put(o, "classical", map[string]VectorValue{"password": literal([]byte("one"))})
	values["token"] = put(o, "own-classical", map[string]VectorValue{"token": literal([]byte("two"))})["token"]
	o.at("spec", "items", "token")["envelopes"] = m.common("own-classical", "alice", "bob")
	o.at("spec")["envelopes"] = m.common("classical", "alice", "bob")
	add("namespace-wide, an item with its own envelopes", "", o, []string{"alice", "bob"}, values)

	o = sealedSecret("shop", "db", "cluster-wide")
	values = put(o, "own-hybrid", map[string]VectorValue{"password": literal([]byte("three"))})
	o.at("spec", "items", "password")["envelopes"] = m.common("own-hybrid", "prod", "recovery")
	o.at("spec")["template"] = object{"type": "example.com/login", "immutable": true, "metadata": object{
		"labels":      object{"b": "1", "a": "", "a-b": "2", "a.b": "3", "A": "4", "a0": "5", "example.com/x": "6"},
		"annotations": object{"example.com/note": "Schlüssel 🗝 — “naïve”\n\t\u0000\u2028", "example.com/empty": ""}}}
	add("cluster-wide, own envelopes only, a template", "neither name nor namespace is bound, but both are there", o,
		[]string{"prod", "recovery"}, values)

	o = sealedSecret("", "anywhere", "cluster-wide")
	values = put(o, "classical", map[string]VectorValue{"password": literal([]byte("four"))})
	o.at("spec")["envelopes"] = m.common("classical", "alice")
	o.at("spec")["template"] = object{}
	add("cluster-wide without a namespace, an empty template", "", o, []string{"alice"}, values)

	o = sealedSecret("shop", "db", "strict")
	values = put(o, "classical", map[string]VectorValue{"password": literal([]byte("five"))})
	o.at("spec")["envelopes"] = object{"alice": m.lines["grease"]}
	add("grease in the envelope", "", o, []string{"alice"}, values)

	o = sealedSecret("shop", "db", "strict")
	values = put(o, "own-classical", map[string]VectorValue{"password": literal([]byte("six"))})
	o.at("spec", "items", "password")["envelopes"] = m.common("own-classical", "alice")
	o.at("spec")["envelopes"] = m.common("classical", "alice", "bob")
	add("common envelopes that no item uses", "", o, []string{"alice"}, values)

	o = sealedSecret("shop", "db", "strict")
	values = put(o, "classical", map[string]VectorValue{"password": literal([]byte("seven"))})
	o.at("spec")["envelopes"] = object{"alice": m.lines["classical/alice"], "bob": m.lines["own-classical/bob"]}
	add("another recipient's line with another id", "a reader looks at its own line only; writers and checks refuse", o,
		[]string{"alice"}, values)

	o = sealedSecret("shop", "db", "strict")
	o.at("spec")["template"] = object{"type": "Opaque", "immutable": false, "data": object{}, "metadata": object{"labels": object{}, "annotations": object{}}}
	add("no items, a template that says nothing", "", o, []string{"alice"}, map[string][]byte{})

	o = sealedSecret("shop", "db", "strict")
	values = put(o, "classical", map[string]VectorValue{"password": literal([]byte("correct horse battery staple"))})
	o.at("spec")["envelopes"] = m.common("classical", "alice")
	add("worked example", "the one in docs/format.md", o, []string{"alice"}, values)
}

func (m *maker) makeNegative() {
	ctx := context("strict", "shop", "db", "password")
	dek := m.deks["classical"]
	value := []byte("correct horse battery staple")
	good := sealItem(dek, ctx, m.nonce(), body(value))
	id, text, _ := strings.Cut(good, ":")
	raw := must(b64.DecodeString(text))
	base := sealedSecret("shop", "db", "strict")
	base.at("spec", "items")["password"] = object{"sealed": good}
	base.at("spec")["envelopes"] = m.common("classical", "alice", "bob")

	negative := func(class, name string, identities []string, spoil func(o object)) {
		o := clone(base).(object)
		spoil(o)
		m.Negative = append(m.Negative, VectorNegative{Name: name, Error: class, Identities: identities, Manifest: o})
	}
	alice := []string{"alice"}
	// bad is a vector in which one field has another value.
	bad := func(class, name string, v any, path ...string) {
		negative(class, name, alice, func(o object) { o.at(path[:len(path)-1]...)[path[len(path)-1]] = v })
	}
	sealed := []string{"spec", "items", "password", "sealed"}
	line := []string{"spec", "envelopes", "alice"}
	encode := func(raw []byte) string { return id + ":" + b64.EncodeToString(raw) }
	changed := func(at int, to byte) []byte { out := slices.Clone(raw); out[at] = to; return out }

	bad(misplaced, "another namespace", "live", "metadata", "namespace")
	bad(misplaced, "another name", "db2", "metadata", "name")
	bad(misplaced, "a wider scope", "namespace-wide", "spec", "scope")
	bad(misplaced, "the widest scope", "cluster-wide", "spec", "scope")
	negative(misplaced, "under another key", alice, func(o object) {
		o.at("spec")["items"] = object{"username": o.at("spec", "items", "password")}
	})
	bad(misplaced, "the tag damaged", encode(changed(1, raw[1]^1)), sealed...)

	negative(missingEnvelope, "a reader that has none", []string{"carol", "prod"}, func(object) {})
	negative(missingEnvelope, "no envelopes at all", alice, func(o object) { delete(o.at("spec"), "envelopes") })
	negative(missingEnvelope, "own envelopes are not mine, the common ones would be", alice, func(o object) {
		o.at("spec", "items", "password")["envelopes"] = m.common("classical", "bob")
	})
	bad(missingEnvelope, "my line is for another data key", m.lines["own-classical/alice"], line...)
	negative(missingEnvelope, "my preferred line is for another data key: no second attempt", []string{"alice", "bob"}, func(o object) {
		o.at("spec", "envelopes")["alice"] = m.lines["own-classical/alice"]
	})

	bad(unsupportedVersion, "version 2", encode(changed(0, 2)), sealed...)
	bad(unsupportedVersion, "version 0", encode(changed(0, 0)), sealed...)
	bad(unsupportedVersion, "version 2, of another length", encode([]byte{2, 0, 0}), sealed...)

	bad(malformed, "no id", text, sealed...)
	bad(malformed, "empty text", "", sealed...)
	bad(malformed, "nothing after the id", id+":", sealed...)
	bad(malformed, "id in upper case", strings.ToUpper(id)+":"+text, sealed...)
	bad(malformed, "id too short", id[:32]+":"+text, sealed...)
	bad(malformed, "id with a digit that is none of base32", id[:32]+"1:"+text, sealed...)
	bad(malformed, "a space after the colon", id+": "+text, sealed...)
	bad(malformed, "a line end at the end", good+"\n", sealed...)
	bad(malformed, "a line end inside", good[:80]+"\n"+good[80:], sealed...)
	bad(malformed, "URL-safe base64", id+":"+strings.NewReplacer("+", "-", "/", "_").Replace(withBoth(text)), sealed...)
	bad(malformed, "nonzero trailing bits", id+":"+looseBits(text), sealed...)
	bad(malformed, "padding missing", strings.TrimRight(good, "="), sealed...)
	bad(malformed, "an envelope's text as the item", m.lines["classical/alice"], sealed...)
	bad(malformed, "too short for any value", encode(raw[:100]), sealed...)
	bad(malformed, "a length that Padmé does not give", encode(append(slices.Clone(raw), 0)), sealed...)
	bad(malformed, "a number as the item", 1, sealed...)
	bad(malformed, "an item without sealed", object{}, "spec", "items", "password")
	bad(malformed, "an item that is a text", good, "spec", "items", "password")
	bad(malformed, "own envelopes empty", object{}, "spec", "items", "password", "envelopes")
	bad(malformed, "own envelopes null", nil, "spec", "items", "password", "envelopes")
	bad(malformed, "a scope in upper case", "Strict", "spec", "scope")
	bad(malformed, "an empty scope", "", "spec", "scope")
	bad(malformed, "no namespace where it is bound", "", "metadata", "namespace")
	bad(malformed, "no name where it is bound", "", "metadata", "name")
	bad(malformed, "a namespace in upper case", "Shop", "metadata", "namespace")
	for _, key := range []string{".", "..", "..data", "a/b", "a b", "", "é", strings.Repeat("k", 254)} {
		negative(malformed, fmt.Sprintf("item key %.8q", key), alice, func(o object) {
			o.at("spec")["items"] = object{key: object{"sealed": sealItem(dek, context("strict", "shop", "db", key), raw[9:21], body(value))}}
		})
	}
	negative(malformed, "two lines with one fingerprint", alice, func(o object) {
		o.at("spec", "envelopes")["twin"] = m.lines["classical/alice"]
	})
	negative(malformed, "two lines with another reader's fingerprint", alice, func(o object) {
		o.at("spec", "envelopes")["twin"] = m.lines["classical/bob"]
	})
	mine := m.lines["classical/alice"]
	bad(malformed, "an envelope without a fingerprint", mine[:34]+mine[52:], line...)
	bad(malformed, "an envelope with a line end", mine+"\n", line...)
	bad(malformed, "an envelope with nonzero trailing bits", mine[:52]+looseBits(mine[52:]), line...)
	twice := strings.Replace(string(must(json.Marshal(base))), `"scope":"strict"`, `"scope":"cluster-wide","scope":"strict"`, 1)
	m.Negative = append(m.Negative, VectorNegative{Name: "scope twice", Error: malformed, Identities: alice, Text: twice})
	twice = strings.Replace(string(must(json.Marshal(base))), `"items":{`, `"items":{"password":{"sealed":"x"},`, 1)
	m.Negative = append(m.Negative, VectorNegative{Name: "an item twice", Error: malformed, Identities: alice, Text: twice})
	negative(limitExceeded, "17 recipients", alice, func(o object) {
		for i := range 15 {
			fp := fingerprint(fmt.Sprint("bulla test recipient ", i))
			o.at("spec", "envelopes")[fmt.Sprintf("more-%d", i)] = mine[:34] + fp + mine[51:]
		}
	})

	for _, v := range m.Envelopes {
		if v.Error != "" {
			bad(v.Error, "envelope "+v.Name, v.Text, line...)
		}
	}
	bad(decryptionFailed, "a bit of the nonce", encode(changed(9, raw[9]^1)), sealed...)
	bad(decryptionFailed, "a bit of the ciphertext", encode(changed(21, raw[21]^0x80)), sealed...)
	bad(decryptionFailed, "a bit of the last byte", encode(changed(len(raw)-1, raw[len(raw)-1]^1)), sealed...)
	negative(decryptionFailed, "moved to another namespace, with the tag to go with it", alice, func(o object) {
		o.at("metadata")["namespace"] = "live"
		moved := slices.Clone(raw)
		copy(moved[1:], tag(context("strict", "live", "db", "password")))
		o.at("spec", "items", "password")["sealed"] = encode(moved)
	})
	inner := func(name string, b []byte) {
		bad(decryptionFailed, "body: "+name, sealItem(dek, ctx, raw[9:21], b), sealed...)
	}
	b := body(value)
	b[len(b)-1] = 1
	inner("a padding byte that is not zero", b)
	b = body(value)
	b[4+len(value)] = ' '
	inner("the first padding byte is not zero", b)
	inner("padded more than Padmé says", append(body(value), make([]byte, 8)...))
	inner("a length beyond the body", append(u32(61), make([]byte, 60)...))
	inner("the greatest length", append(u32(1<<32-1), make([]byte, 60)...))
}

// looseBits sets a bit of a padded base64 text that stands for nothing.
func looseBits(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	stem := strings.TrimRight(text, "=")
	if stem == text {
		panic("this base64 has no loose bits: choose another length")
	}
	last := strings.IndexByte(alphabet, stem[len(stem)-1])
	return stem[:len(stem)-1] + string(alphabet[last|1]) + text[len(stem):]
}

// withBoth makes sure that a base64 text has letters that the URL-safe alphabet writes otherwise.
func withBoth(text string) string { return text[:40] + "+/" + text[42:] }
