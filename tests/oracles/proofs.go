package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// The computations of docs/proofs.md, and the vectors for them (tests/vectors/proofs.json).

var proveMagic = []byte("bulla/v1/prove\x00\x00")

// ProofVectors are exchanges with the challenge that was sent and the proof that came back, and challenges that nobody
// takes up.
type ProofVectors struct {
	Format  string          `json:"format"`
	Comment string          `json:"comment"`
	Proofs  []ProofVector   `json:"proofs"`
	Refused []RefusedVector `json:"refused"`
}

type ProofVector struct {
	Name      string            `json:"name"`
	Identity  string            `json:"identity"`
	Recipient string            `json:"recipient"`
	Secret    string            `json:"secret"`
	Key       string            `json:"key"`
	Challenge string            `json:"challenge"`
	Path      string            `json:"path"`
	Request   string            `json:"request"`
	Status    int               `json:"status"`
	Response  string            `json:"response"`
	Data      map[string]string `json:"data"`
	State     string            `json:"state"`
	Proof     string            `json:"proof"`
}

type RefusedVector struct {
	Name      string `json:"name"`
	Identity  string `json:"identity"`
	Challenge string `json:"challenge"`
}

// challengeSecret takes a challenge up.
func challengeSecret(challenge string, identity Identity) ([]byte, error) {
	fp, encoded, found := strings.Cut(challenge, ":")
	if !found || fp != identity.fingerprint || len(challenge) > 17+1+5464 {
		return nil, fail(malformed, "not a challenge for this key")
	}
	file, err := b64.DecodeString(encoded)
	if err != nil || len(file) > 4096 {
		return nil, fail(malformed, "not base64 of an age file")
	}
	payload, err := decrypt(bytes.NewReader(file), []Identity{identity})
	if err != nil {
		return nil, err
	}
	if len(payload) != 48 || !slices.Equal(payload[:16], proveMagic) {
		return nil, fail(decryptionFailed, "not the payload of a challenge")
	}
	return payload[16:], nil
}

func proofKey(secret []byte) []byte {
	return must(hkdf.Key(sha256.New, secret, []byte("bulla/v1/prove"), "bulla/v1/prove/key", 32))
}

// stateOf is M(data without signature).
func stateOf(data map[string]string) []byte {
	kept := map[string]string{}
	for key, value := range data {
		if key != "signature" {
			kept[key] = value
		}
	}
	return pairs(kept)
}

func proofOf(secret []byte, pinned, path, request string, status int, response string, state []byte) string {
	mac := hmac.New(sha256.New, proofKey(secret))
	for _, part := range [][]byte{lp("bulla/v1/answer"), lp(pinned), lp(path), lp(request), u32(status), lp(response), lp(string(state))} {
		mac.Write(part)
	}
	return b64.EncodeToString(mac.Sum(nil))
}

// makeChallenge is the asking end: a new secret, and the header that carries it.
func makeChallenge(recipient string) (map[string]string, error) {
	r, err := parseRecipient(recipient)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	file, err := encrypt(slices.Concat(proveMagic, secret), r)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"secret": hex.EncodeToString(secret), "challenge": fingerprint(r.text) + ":" + b64.EncodeToString(file),
	}, nil
}

// answer is the answering end: the proof of an exchange, by whichever identity takes its challenge up.
func answer(asked *ProofVector, identities []Identity) (string, error) {
	var state []byte
	if asked.Data != nil {
		state = stateOf(asked.Data)
	}
	for _, identity := range identities {
		secret, err := challengeSecret(asked.Challenge, identity)
		if err != nil {
			continue
		}
		recipient, err := recipientOf(identity.Identity)
		if err != nil {
			return "", err
		}
		return proofOf(secret, recipient, asked.Path, asked.Request, asked.Status, asked.Response, state), nil
	}
	return "", fail(decryptionFailed, "no identity takes the challenge up")
}

// makeProofVectors computes everything but what age makes random, which is kept from the old file.
func makeProofVectors(natives *Vectors, old *ProofVectors) *ProofVectors {
	out := &ProofVectors{Format: "bulla.dev/v1alpha1",
		Comment: "Made by tests/oracles (proofs). The identities are those of native.json and public: never use them."}
	who := func(name string) VectorIdentity {
		return natives.Identities[slices.IndexFunc(natives.Identities, func(v VectorIdentity) bool { return v.Name == name })]
	}
	kept := func(name string, refused bool, file func() string) string {
		if old == nil {
			return file()
		}
		if refused {
			return old.Refused[slices.IndexFunc(old.Refused, func(v RefusedVector) bool { return v.Name == name })].Challenge
		}
		return old.Proofs[slices.IndexFunc(old.Proofs, func(v ProofVector) bool { return v.Name == name })].Challenge
	}
	challenge := func(to, under string, payload []byte) string {
		file := must(encrypt(payload, must(parseRecipient(who(to).Recipient))))
		return who(under).Fingerprint + ":" + b64.EncodeToString(file)
	}
	proof := func(name, identity, path, request string, status int, response string, data map[string]string) {
		secret := stream("bulla test challenge "+name, 32)
		id := who(identity)
		var state []byte
		if data != nil {
			state = stateOf(data)
		}
		out.Proofs = append(out.Proofs, ProofVector{
			Name: name, Identity: id.Identity, Recipient: id.Recipient,
			Secret: hex.EncodeToString(secret), Key: hex.EncodeToString(proofKey(secret)),
			Challenge: kept(name, false, func() string { return challenge(identity, identity, slices.Concat(proveMagic, secret)) }),
			Path:      path, Request: request, Status: status, Response: response, Data: data,
			State: hex.EncodeToString(state),
			Proof: proofOf(secret, id.Recipient, path, request, status, response, state),
		})
	}
	data := map[string]string{
		"recipients": fmt.Sprintf("# name: prod\n%s\n", who("prod").Recipient),
		"cluster":    "prod",
		"recovery":   fmt.Sprintf("# name: recovery\n%s\n", who("recovery").Recipient),
	}
	proof("prove", "prod", "/v1/prove", "", 200, "{}", data)
	signed := map[string]string{"signature": "not counted"}
	for key, value := range data {
		signed[key] = value
	}
	proof("prove with a signature", "prod", "/v1/prove", "", 200, "{}", signed)
	proof("prove with a classical key", "alice", "/v1/prove", "", 200, "{}", map[string]string{"recipients": who("alice").Recipient + "\n"})
	proof("prove of an empty map", "alice", "/v1/prove", "", 200, "{}", map[string]string{})
	proof("rewrap", "prod", "/v1/rewrap", `{"envelopes":[]}`, 200, `{"results":[]}`, nil)
	proof("refusal", "prod", "/v1/reseal", `{"object":{},"add":["dr"]}`, 409, `{"error":"unknown-recipient","message":"dr"}`, nil)
	proof("not only ASCII", "alice", "/v1/rewrap", "ä\n", 400, "\u2028", nil)

	refuse := func(name, identity string, file func() string) {
		out.Refused = append(out.Refused, RefusedVector{name, who(identity).Identity, kept(name, true, file)})
	}
	secret := stream("bulla test challenge refused", 32)
	good := slices.Concat(proveMagic, secret)
	refuse("for somebody else", "alice", func() string { return challenge("bob", "bob", good) })
	refuse("for somebody else under this fingerprint", "alice", func() string { return challenge("bob", "alice", good) })
	refuse("an envelope's payload", "alice", func() string { return challenge("alice", "alice", slices.Concat(magic, secret)) })
	refuse("one byte less", "alice", func() string { return challenge("alice", "alice", good[:47]) })
	refuse("one byte more", "alice", func() string { return challenge("alice", "alice", append(slices.Clone(good), 0)) })
	refuse("no colon", "alice", func() string { return strings.Replace(challenge("alice", "alice", good), ":", "", 1) })
	refuse("white space at the end", "alice", func() string { return challenge("alice", "alice", good) + " " })
	refuse("nothing", "alice", func() string { return "" })
	return out
}
