package main

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"c2sp.org/CCTV/age"
	"filippo.io/age"
)

// Identity is a private key with the fingerprint of its recipient.
type Identity struct {
	age.Identity
	fingerprint string
}

func recipientOf(identity age.Identity) (string, error) {
	switch i := identity.(type) {
	case *age.HybridIdentity:
		return i.Recipient().String(), nil
	case *age.X25519Identity:
		return i.Recipient().String(), nil
	}
	return "", errors.New("neither a hybrid nor a classical identity")
}

func parseIdentities(content string) ([]Identity, error) {
	parsed, err := age.ParseIdentities(strings.NewReader(content))
	if err != nil {
		return nil, err
	}
	var out []Identity
	for _, i := range parsed {
		recipient, err := recipientOf(i)
		if err != nil {
			return nil, err
		}
		out = append(out, Identity{i, fingerprint(recipient)})
	}
	return out, nil
}

// recipientsIn lists the recipients of the identities in a file.
func recipientsIn(content string) ([]string, error) {
	identities, err := parseIdentities(content)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, i := range identities {
		recipient, err := recipientOf(i.Identity)
		if err != nil {
			return nil, err
		}
		out = append(out, recipient)
	}
	return out, nil
}

func readIdentities(path string) ([]Identity, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseIdentities(string(content))
}

func parseRecipient(text string) (Recipient, error) {
	parsed, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(parsed) != 1 {
		return Recipient{}, fail(malformed, "not a recipient")
	}
	canonical := parsed[0].(fmt.Stringer).String()
	return Recipient{Recipient: parsed[0], text: canonical}, nil
}

func encrypt(plain []byte, recipients ...age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decrypt(file io.Reader, identities []Identity) ([]byte, error) {
	var plain []age.Identity
	for _, i := range identities {
		plain = append(plain, i.Identity)
	}
	r, err := age.Decrypt(file, plain...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// keygen makes an identity file as age-keygen does: the recipient in a comment, then the identity.
func keygen(kind string) (string, error) {
	var identity age.Identity
	var err error
	switch kind {
	case "hybrid":
		identity, err = age.GenerateHybridIdentity()
	case "classical":
		identity, err = age.GenerateX25519Identity()
	default:
		return "", fmt.Errorf("%q is neither hybrid nor classical", kind)
	}
	if err != nil {
		return "", err
	}
	recipient, err := recipientOf(identity)
	return fmt.Sprintf("# public key: %s\n%s\n", recipient, identity), err
}

// writeCCTV writes those of age's own test vectors that Bulla's envelopes can meet into dir: each with an identity, and
// neither armored nor with a passphrase. Compressed ones are inflated, and their line "compressed" dropped.
func writeCCTV(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hybrid, classical := 0, 0
	err := fs.WalkDir(agetest.Vectors, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(agetest.Vectors, name)
		if err != nil {
			return err
		}
		header, file, _ := bytes.Cut(content, []byte("\n\n"))
		var kept []string
		has := map[string]bool{}
		for line := range strings.Lines(string(header) + "\n") {
			key, _, _ := strings.Cut(line, ": ")
			has[key] = true
			if key != "compressed" {
				kept = append(kept, line)
			}
		}
		if !has["identity"] || has["armored"] || has["passphrase"] {
			return nil
		}
		if has["compressed"] {
			z, err := zlib.NewReader(bytes.NewReader(file))
			if err != nil {
				return err
			}
			if file, err = io.ReadAll(z); err != nil {
				return err
			}
		}
		if strings.Contains(string(header), "AGE-SECRET-KEY-PQ-1") {
			hybrid++
		} else {
			classical++
		}
		return os.WriteFile(filepath.Join(dir, name), append([]byte(strings.Join(kept, "")+"\n"), file...), 0o644)
	})
	fmt.Printf("%d vectors with a hybrid identity, %d with classical ones only\n", hybrid, classical)
	return err
}
