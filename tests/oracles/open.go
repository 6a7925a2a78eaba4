package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"regexp"
	"strings"

	"filippo.io/age"
)

// A reader of sealed items, to be read beside docs/format.md. What can be seen without a key is checked first and has an
// error of its own; from the first use of a key on every failure looks the same.

var (
	itemText     = regexp.MustCompile(`^(k[a-z2-7]{32}):([A-Za-z0-9+/]+={0,2})$`)
	envelopeText = regexp.MustCompile(`^(k[a-z2-7]{32}):(r[a-z2-7]{16}):([A-Za-z0-9+/]+={0,2})$`)
)

func (s *SealedSecret) openItem(key string, identities []Identity) ([]byte, error) {
	item := s.Items[key]
	text := itemText.FindStringSubmatch(item.Sealed)
	if text == nil {
		return nil, fail(malformed, "the text is not ID:BASE64")
	}
	id := text[1]
	sealed, err := b64.DecodeString(text[2])
	if err != nil {
		return nil, fail(malformed, "the base64 is not canonical")
	}
	if sealed[0] != 1 { // version || tag (8) || nonce (12) || ciphertext || GCM tag (16)
		return nil, fail(unsupportedVersion, "version %d", sealed[0])
	}
	if n := len(sealed) - 37; n < 64 || padme(n) != n {
		return nil, fail(malformed, "no padded value has this length")
	}
	ctx := context(s.Scope, s.Namespace, s.Name, key)
	if !bytes.Equal(sealed[1:9], tag(ctx)) {
		return nil, fail(misplaced, "sealed for another place")
	}

	lines := item.Envelopes
	if lines == nil {
		lines = s.Envelopes
	}
	dek, err := unwrap(lines, id, identities)
	if err != nil {
		return nil, err
	}

	block := must(aes.NewCipher(itemKey(extract(dek), ctx)))
	body, err := must(cipher.NewGCM(block)).Open(nil, sealed[9:21], sealed[21:], ctx)
	if err != nil {
		return nil, errDecrypt
	}
	n := uint64(binary.BigEndian.Uint32(body))
	if n > uint64(len(body)-4) || bodyLen(int(n)) != len(body) || len(bytes.Trim(body[4+n:], "\x00")) != 0 {
		return nil, errDecrypt
	}
	return body[4 : 4+n], nil
}

// unwrap finds the envelope for the first of the identities that has one in lines, and opens that one and no other.
func unwrap(lines map[string]string, id string, identities []Identity) ([]byte, error) {
	byFingerprint := map[string][]string{}
	for name, line := range lines {
		text := envelopeText.FindStringSubmatch(line)
		if text == nil {
			return nil, fail(malformed, "envelope %q is not ID:FINGERPRINT:BASE64", name)
		}
		if byFingerprint[text[2]] != nil {
			return nil, fail(malformed, "two envelopes for %s", text[2])
		}
		byFingerprint[text[2]] = text
	}
	for _, identity := range identities {
		text := byFingerprint[identity.fingerprint]
		if text == nil {
			continue
		}
		if text[1] != id {
			return nil, fail(missingEnvelope, "the envelope for %s holds another data key", identity.fingerprint)
		}
		file, err := b64.DecodeString(text[3])
		if err != nil || !plainAgeFile(file) {
			return nil, fail(malformed, "the envelope for %s is not an age file as it should be", identity.fingerprint)
		}
		payload, err := age.Decrypt(bytes.NewReader(file), identity.Identity)
		if err != nil {
			return nil, errDecrypt
		}
		dek, err := io.ReadAll(payload) // to the end, or nothing is authenticated
		if err != nil || len(dek) != 48 || !bytes.HasPrefix(dek, magic) ||
			subtle.ConstantTimeCompare([]byte(dataKeyID(extract(dek[16:]))), []byte(id)) != 1 {
			return nil, errDecrypt
		}
		return dek[16:], nil
	}
	return nil, fail(missingEnvelope, "no envelope for any of the identities given")
}

// plainAgeFile tells whether this is a binary age file of at most 4 KiB with one recipient stanza of the two known
// types, besides grease.
func plainAgeFile(file []byte) bool {
	rest, found := strings.CutPrefix(string(file), "age-encryption.org/v1\n")
	if !found || len(file) > 4096 {
		return false
	}
	stanzas := 0
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "---") {
			return stanzas == 1
		}
		kind, found := strings.CutPrefix(line, "-> ")
		kind, _, _ = strings.Cut(strings.TrimSuffix(kind, "\n"), " ")
		switch {
		case !found || kind == "grease" || strings.HasSuffix(kind, "-grease"):
		case kind == "mlkem768x25519" || kind == "X25519":
			stanzas++
		default:
			return false
		}
	}
	return false
}
