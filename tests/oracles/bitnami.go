package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"time"
)

// The format of Bitnami sealed-secrets on Go's own cryptography, written from docs/format.md.

const bitnamiUsage = `usage:
  oracles bitnami keygen BITS pkcs1|pkcs8   a private key and its certificate, as JSON
  oracles bitnami seal CERT_FILE            lines {"label", "value"} (base64) to lines of items
  oracles bitnami open KEY_FILE             lines {"label", "item"} to lines {"value"} or {"error"}
  oracles bitnami check CERT_FILE           fails unless the certificate is what a key Secret holds
  oracles bitnami vectors                   the test vectors
`

func bitnami(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "keygen":
		var bits int
		if _, err := fmt.Sscan(args[1], &bits); err != nil {
			return err
		}
		pair, err := newPair(bits, args[2])
		if err != nil {
			return err
		}
		return printJSON(pair)
	case len(args) == 2 && args[0] == "seal":
		key, err := readCertificate(args[1])
		if err != nil {
			return err
		}
		return eachLine(func(line []byte) (any, error) {
			var c bitnamiCase
			if err := json.Unmarshal(line, &c); err != nil {
				return nil, err
			}
			return bitnamiSeal(key, c.Label, c.Value)
		})
	case len(args) == 2 && args[0] == "open":
		key, err := readPrivateKey(args[1])
		if err != nil {
			return err
		}
		return eachLine(func(line []byte) (any, error) {
			var c bitnamiCase
			if err := json.Unmarshal(line, &c); err != nil {
				return nil, err
			}
			value, err := bitnamiOpen(key, c.Label, c.Item)
			if err != nil {
				return map[string]string{"error": err.Error()}, nil
			}
			return map[string][]byte{"value": value}, nil
		})
	case len(args) == 2 && args[0] == "check":
		_, err := readCertificate(args[1])
		return err
	case len(args) == 1 && args[0] == "vectors":
		return bitnamiVectors()
	}
	fmt.Fprint(os.Stderr, bitnamiUsage)
	return errUsage
}

type bitnamiCase struct {
	Label []byte `json:"label"`
	Value []byte `json:"value"`
	Item  string `json:"item,omitempty"`
}

type bitnamiPair struct {
	PrivateKey  string `json:"privateKey"`
	Certificate string `json:"certificate"`
}

func eachLine(f func([]byte) (any, error)) error {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		answer, err := f(line)
		if err != nil {
			return err
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
}

func bitnamiSeal(key *rsa.PublicKey, label, value []byte) (string, error) {
	sessionKey := make([]byte, 32)
	if _, err := rand.Read(sessionKey); err != nil {
		return "", err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, sessionKey, label)
	if err != nil {
		return "", err
	}
	item := binary.BigEndian.AppendUint16(nil, uint16(len(wrapped)))
	item = append(item, wrapped...)
	item = append(item, sessionCipher(sessionKey).Seal(nil, make([]byte, 12), value, nil)...)
	return base64.StdEncoding.EncodeToString(item), nil
}

func bitnamiOpen(key *rsa.PrivateKey, label []byte, text string) ([]byte, error) {
	item, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("base64")
	}
	if len(item) < 2 {
		return nil, errors.New("truncated")
	}
	n := int(binary.BigEndian.Uint16(item))
	if len(item) < 2+n+16 {
		return nil, errors.New("truncated")
	}
	sessionKey, err := rsa.DecryptOAEP(sha256.New(), nil, key, item[2:2+n], label)
	if err != nil || len(sessionKey) != 32 {
		return nil, errors.New("closed")
	}
	value, err := sessionCipher(sessionKey).Open([]byte{}, make([]byte, 12), item[2+n:], nil)
	if err != nil {
		return nil, errors.New("closed")
	}
	return value, nil
}

func sessionCipher(key []byte) cipher.AEAD {
	return must(cipher.NewGCM(must(aes.NewCipher(key))))
}

func newPair(bits int, form string) (*bitnamiPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err
	}
	from := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{},
		NotBefore:             from,
		NotAfter:              from.AddDate(100, 0, 0),
		KeyUsage:              x509.KeyUsageEncipherOnly,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if form == "pkcs8" {
		block = &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}
	}
	return &bitnamiPair{
		PrivateKey:  string(pem.EncodeToMemory(block)),
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}, nil
}

func readPEM(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", file)
	}
	return block.Bytes, nil
}

func readPrivateKey(file string) (*rsa.PrivateKey, error) {
	der, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PrivateKey), nil
}

func readCertificate(file string) (*rsa.PublicKey, error) {
	der, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return nil, err
	}
	if !certificate.IsCA || certificate.SerialNumber.BitLen() < 120 {
		return nil, errors.New("not a CA with a long serial number")
	}
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return key, nil
}

// bitnamiVectors writes keys of two sizes and forms, and for each what it seals.
func bitnamiVectors() error {
	type vector struct {
		Key       int               `json:"key"`
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Scope     string            `json:"scope"`
		Label     string            `json:"label"`
		Values    map[string][]byte `json:"values"`
		Items     map[string]string `json:"items"`
		Legacy    string            `json:"legacy"`
	}
	var out struct {
		Keys    []*bitnamiPair `json:"keys"`
		Vectors []vector       `json:"vectors"`
	}
	for i, form := range []string{"pkcs1", "pkcs8", "pkcs1"} {
		bits := []int{2048, 2048, 4096}[i]
		pair, err := newPair(bits, form)
		if err != nil {
			return err
		}
		out.Keys = append(out.Keys, pair)
		block, _ := pem.Decode([]byte(pair.Certificate))
		public := must(x509.ParseCertificate(block.Bytes)).PublicKey.(*rsa.PublicKey)
		for scope, label := range map[string]string{"strict": "shop/db", "namespace-wide": "shop", "cluster-wide": ""} {
			values := map[string][]byte{
				"empty": {}, "password": []byte("correct horse battery staple"), "binary": {0, 1, 2, 0xff, 0xfe},
			}
			v := vector{Key: i, Name: "db", Namespace: "shop", Scope: scope, Label: label, Values: values, Items: map[string]string{}}
			for key, value := range values {
				v.Items[key] = must(bitnamiSeal(public, []byte(label), value))
			}
			secret := must(json.Marshal(map[string]any{
				"kind": "Secret", "apiVersion": "v1", "type": "Opaque", "data": values,
				"metadata": map[string]any{"name": "db", "namespace": "shop", "creationTimestamp": nil, "labels": map[string]string{"app": "db"}},
			}))
			v.Legacy = must(bitnamiSeal(public, []byte(label), secret))
			out.Vectors = append(out.Vectors, v)
		}
	}
	return printJSON(out)
}
