package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

const vectorsFile = "../vectors/native.json"

func loadVectors(t *testing.T) (*Vectors, []byte) {
	t.Helper()
	content, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v *Vectors
	if err := json.Unmarshal(content, &v); err != nil {
		t.Fatal(err)
	}
	return v, content
}

// identities are those of the vectors with these names, in this order.
func (v *Vectors) identities(t *testing.T, names ...string) []Identity {
	t.Helper()
	return must(parseIdentities(v.identityFile(t, names...)))
}

func (v *Vectors) identityFile(t *testing.T, names ...string) string {
	t.Helper()
	out := ""
	for _, name := range names {
		for _, i := range v.Identities {
			if i.Name == name {
				out += i.Identity + "\n"
			}
		}
	}
	if strings.Count(out, "\n") != len(names) {
		t.Fatalf("not all of %v are identities of the vectors", names)
	}
	return out
}

func (n VectorNegative) input() []byte {
	if n.Text != "" {
		return []byte(n.Text)
	}
	return must(json.Marshal(n.Manifest))
}

func openJSON(input []byte, identities []Identity) (map[string][]byte, error) {
	s, err := parse(input)
	if err != nil {
		return nil, err
	}
	return s.open(identities)
}

func sameValues(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	for key, value := range want {
		if opened, found := got[key]; !found || !bytes.Equal(opened, value) {
			t.Errorf("%s: not the value that was sealed", key)
		}
	}
}

func TestVectorsAreReproducible(t *testing.T) {
	old, content := loadVectors(t)
	if !bytes.Equal(must(prettyJSON(makeVectors(old))), content) {
		t.Fatal("the vectors made now differ from those in the repository")
	}
}

func TestVectorsVerify(t *testing.T) {
	v, _ := loadVectors(t)
	ids := map[string]string{}
	for _, k := range v.DataKeys {
		ids[k.Name] = k.ID
	}
	for _, e := range v.Envelopes {
		_, err := unwrap(map[string]string{"x": e.Text}, ids[e.DataKey], v.identities(t, e.Identity))
		if class(err) != e.Error {
			t.Errorf("envelope %s: %v, want %q", e.Name, err, e.Error)
		}
	}
	for _, o := range v.Objects {
		t.Run(o.Name, func(t *testing.T) {
			s, err := parse(must(json.Marshal(o.Manifest)))
			if err != nil {
				t.Fatal(err)
			}
			if digest(s) != o.Digest {
				t.Error("another digest")
			}
			for _, name := range o.Identities {
				values, err := s.open(v.identities(t, name))
				if err != nil {
					t.Fatal(err)
				}
				sameValues(t, values, o.Values)
			}
		})
	}
	for _, n := range v.Negative {
		t.Run(n.Name, func(t *testing.T) {
			_, err := openJSON(n.input(), v.identities(t, n.Identities...))
			if class(err) != n.Error || err == nil {
				t.Errorf("%v, want %s", err, n.Error)
			}
		})
	}
}

func TestProofVectors(t *testing.T) {
	natives, _ := loadVectors(t)
	content, err := os.ReadFile("../vectors/proofs.json")
	if err != nil {
		t.Fatal(err)
	}
	var old *ProofVectors
	if err := json.Unmarshal(content, &old); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(must(prettyJSON(makeProofVectors(natives, old))), content) {
		t.Error("the vectors made now differ from those in the repository")
	}
	for _, v := range old.Proofs {
		proof, err := answer(&v, must(parseIdentities(v.Identity)))
		if err != nil || proof != v.Proof {
			t.Errorf("%s: %q, %v", v.Name, proof, err)
		}
	}
	for _, v := range old.Refused {
		if _, err := challengeSecret(v.Challenge, must(parseIdentities(v.Identity))[0]); err == nil {
			t.Errorf("%s: it is taken up", v.Name)
		}
	}
}

func TestWorkedExampleIsTheVector(t *testing.T) {
	v, _ := loadVectors(t)
	page := string(must(os.ReadFile("../../docs/format.md")))
	o := v.Objects[len(v.Objects)-1]
	identity, dataKey := v.Identities[2], v.DataKeys[1]
	i := v.Items[len(v.Items)-1]
	if o.Name != "worked example" || identity.Name != "alice" || dataKey.Name != "classical" {
		t.Fatal("the vectors are in another order")
	}
	for what, text := range map[string]string{"identity": identity.Identity, "recipient": identity.Recipient,
		"fingerprint": identity.Fingerprint, "dek": dataKey.DEK, "prk": dataKey.PRK, "id": dataKey.ID, "nonce": i.Nonce,
		"ctx": i.Ctx, "tag": i.Tag, "item key": i.ItemKey, "sealed": i.Sealed, "digest": o.Digest,
		"envelope": must(parse(must(json.Marshal(o.Manifest)))).Envelopes["alice"]} {
		if !strings.Contains(page, text) {
			t.Errorf("docs/format.md does not have the %s", what)
		}
	}
}

// lengths are the lengths of values on either side of where the padding grows.
var lengths = []int{0, 1, 59, 60, 61, 68, 69, 100, 1000, 1020, 1021}

func testRecipients(t *testing.T, v *Vectors, names ...string) []Recipient {
	t.Helper()
	var out []Recipient
	for _, name := range names {
		for _, i := range v.Identities {
			if i.Name == name {
				r := must(parseRecipient(i.Recipient))
				r.name = name
				out = append(out, r)
			}
		}
	}
	return out
}

func testValues() map[string][]byte {
	values := map[string][]byte{"text": []byte("grüße\n"), ".docker.config-1_X": {0, 255}}
	for _, n := range lengths {
		values[fmt.Sprint("length-", n)] = stream("test", n)
	}
	return values
}

func TestOpenAfterSealIsTheIdentity(t *testing.T) {
	v, _ := loadVectors(t)
	for _, scope := range []string{"strict", "namespace-wide", "cluster-wide"} {
		for _, each := range []bool{false, true} {
			for _, names := range [][]string{{"prod", "recovery"}, {"alice", "bob"}} {
				m, err := seal(testRecipients(t, v, names...), "shop", "db", scope, testValues(), each)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					values, err := openJSON(must(json.Marshal(m)), v.identities(t, "carol", name))
					if err != nil {
						t.Fatal(err)
					}
					sameValues(t, values, testValues())
				}
			}
		}
	}
}

func TestAnyBitOfAnItemMatters(t *testing.T) {
	v, _ := loadVectors(t)
	m := must(seal(testRecipients(t, v, "alice"), "shop", "db", "strict", map[string][]byte{"k": []byte("value")}, false))
	s := must(parse(must(json.Marshal(m))))
	id, text, _ := strings.Cut(s.Items["k"].Sealed, ":")
	raw := must(b64.DecodeString(text))
	identities := v.identities(t, "alice")
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		s.Items["k"] = Item{Sealed: id + ":" + b64.EncodeToString(raw)}
		if _, err := s.openItem("k", identities); err == nil {
			t.Errorf("opens with bit %d flipped", bit)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
}

func TestAnyByteOfAnEnvelopeMatters(t *testing.T) {
	v, _ := loadVectors(t)
	for _, name := range []string{"alice", "prod"} {
		m := must(seal(testRecipients(t, v, name), "shop", "db", "strict", map[string][]byte{"k": nil}, false))
		line := m.Spec.Envelopes[name]
		raw := must(b64.DecodeString(line[52:]))
		for i := range raw {
			raw[i] ^= 1
			lines := map[string]string{name: line[:52] + b64.EncodeToString(raw)}
			if _, err := unwrap(lines, line[:33], v.identities(t, name)); err == nil {
				t.Errorf("%s: opens with byte %d changed", name, i)
			}
			raw[i] ^= 1
		}
	}
}

func TestDigestChangesWithContentOnly(t *testing.T) {
	v, _ := loadVectors(t)
	o := v.Objects[2]
	base := func() *SealedSecret { return must(parse(must(json.Marshal(o.Manifest)))) }
	for name, change := range map[string]func(*SealedSecret){
		"scope":      func(s *SealedSecret) { s.Scope = "strict" },
		"item":       func(s *SealedSecret) { s.Items["password"] = Item{Sealed: "x"} },
		"key":        func(s *SealedSecret) { s.Items["passwore"] = s.Items["password"]; delete(s.Items, "password") },
		"type":       func(s *SealedSecret) { s.Template.Type = "Opaque" },
		"immutable":  func(s *SealedSecret) { s.Template.Immutable = false },
		"label":      func(s *SealedSecret) { s.Template.Labels["a"] = "x" },
		"annotation": func(s *SealedSecret) { delete(s.Template.Annotations, "example.com/empty") },
		"swapped":    func(s *SealedSecret) { t := &s.Template; t.Labels, t.Annotations = t.Annotations, t.Labels },
	} {
		s := base()
		change(s)
		if digest(s) == o.Digest {
			t.Errorf("the digest does not see a change of %s", name)
		}
	}
	for name, change := range map[string]func(*SealedSecret){
		"namespace of a cluster-wide object": func(s *SealedSecret) { s.Namespace = "live" },
		"name of a cluster-wide object":      func(s *SealedSecret) { s.Name = "db2" },
		"envelopes": func(s *SealedSecret) {
			s.Envelopes = nil
			s.Items["password"] = Item{Sealed: s.Items["password"].Sealed}
		},
	} {
		s := base()
		change(s)
		if digest(s) != o.Digest {
			t.Errorf("the digest changes with %s", name)
		}
	}
}

func TestPadmé(t *testing.T) {
	for n, want := range map[int]int{0: 64, 59: 64, 60: 64, 61: 72, 68: 72, 69: 80, 100: 104, 1000: 1024, 700 << 10: 720896} {
		if got := bodyLen(n); got != want {
			t.Errorf("%d bytes: a body of %d, want %d", n, got, want)
		}
	}
	for l := 2; l < 1<<20; l += 1 + l/97 {
		p := padme(l)
		if p < l || float64(p) > 1.12*float64(l) || padme(p) != p {
			t.Errorf("Padmé(%d) = %d", l, p)
		}
	}
}

func TestRecipientsThatCannotStandTogether(t *testing.T) {
	v, _ := loadVectors(t)
	named := func(name, as string) Recipient {
		r := testRecipients(t, v, name)[0]
		r.name = as
		return r
	}
	for name, recipients := range map[string][]Recipient{
		"none":                         nil,
		"hybrid and classical":         {named("prod", "prod"), named("alice", "alice")},
		"one name for two":             {named("alice", "x"), named("bob", "x")},
		"two names for one":            {named("alice", "x"), named("alice", "y")},
		"the other's fingerprint":      {named("alice", fingerprint(named("bob", "").text)), named("bob", "bob")},
		"a name that YAML takes amiss": {named("alice", "yes")},
		"a name in upper case":         {named("alice", "Alice")},
	} {
		if checkRecipients(recipients) == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestCCTV(t *testing.T) {
	dir := t.TempDir()
	if err := writeCCTV(dir); err != nil {
		t.Fatal(err)
	}
	files := must(os.ReadDir(dir))
	if len(files) < 80 {
		t.Errorf("only %d vectors", len(files))
	}
	for _, name := range []string{"hybrid", "hybrid_low_order", "x25519", "x25519_low_order", "stream_257_chunks"} {
		header, _, found := strings.Cut(string(must(os.ReadFile(dir+"/"+name))), "\n\n")
		if !found || !strings.Contains(header+"\n", "\nidentity: ") || strings.Contains(header, "compressed") {
			t.Errorf("%s: header %q", name, header)
		}
	}
}
