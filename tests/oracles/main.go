// Oracles is a second implementation of Bulla's sealed format, written from docs/format.md alone and on another
// implementation of age. The Rust tests run it to compare; nobody ships it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `usage:
  oracles open IDENTITY_FILE                        SealedSecret (JSON) to {key: base64}
  oracles seal [-each] RECIPIENTS NAMESPACE NAME SCOPE   {key: base64} to a SealedSecret (JSON)
  oracles digest                                    SealedSecret (JSON) to its content digest
  oracles vectors [-deterministic] [FILE]           the test vectors; with -deterministic, keys and envelopes are FILE's
                                                    (by default tests/vectors/native.json)
  oracles proofs [-deterministic] [FILE]            the same of docs/proofs.md (tests/vectors/proofs.json)
  oracles challenge RECIPIENT                       a challenge, as JSON {secret, challenge}
  oracles prove IDENTITY_FILE                       an exchange with its challenge (JSON, as in the vectors) to its proof
  oracles template                                  {template, items} to {output} or {error}, a line of JSON each
  oracles cctv DIR                                  age's own test vectors into DIR
  oracles age-encrypt RECIPIENT                     bytes to a binary age file
  oracles age-decrypt IDENTITY_FILE                 and back
  oracles age -d -i IDENTITY_FILE [INPUT]           the same, called like age
  oracles age-keygen hybrid|classical               an identity file
  oracles age-keygen -y IDENTITY_FILE               its recipients, called like age-keygen
  oracles bitnami …                                 the other format
`

var errUsage = errors.New("usage")

func main() {
	err := run(os.Args[1:])
	if err == errUsage {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	if args[0] == "bitnami" {
		return bitnami(args[1:])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	each := flags.Bool("each", false, "")
	deterministic := flags.Bool("deterministic", false, "")
	decryptFlag := flags.Bool("d", false, "")
	identityFile := flags.String("i", "", "")
	recipientsOf := flags.String("y", "", "")
	if err := flags.Parse(args[1:]); err != nil {
		return errUsage
	}
	rest := flags.Args()

	switch {
	case args[0] == "open" && len(rest) == 1:
		identities, err := readIdentities(rest[0])
		if err != nil {
			return err
		}
		s, err := parseInput()
		if err != nil {
			return err
		}
		values, err := s.open(identities)
		if err != nil {
			return err
		}
		return printJSON(values)

	case args[0] == "seal" && len(rest) == 4:
		recipients, err := readRecipients(rest[0])
		if err != nil {
			return err
		}
		values, err := readValues()
		if err != nil {
			return err
		}
		m, err := seal(recipients, rest[1], rest[2], rest[3], values, *each)
		if err != nil {
			return err
		}
		return printJSON(m)

	case args[0] == "digest" && len(rest) == 0:
		s, err := parseInput()
		if err != nil {
			return err
		}
		fmt.Println(digest(s))
		return nil

	case args[0] == "vectors" && len(rest) <= 1:
		var old *Vectors
		if *deterministic {
			path := "tests/vectors/native.json"
			if len(rest) == 1 {
				path = rest[0]
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := json.Unmarshal(content, &old); err != nil {
				return err
			}
		}
		return printJSON(makeVectors(old))

	case args[0] == "proofs" && len(rest) <= 1:
		native, err := os.ReadFile("tests/vectors/native.json")
		if err != nil {
			return err
		}
		var natives *Vectors
		if err := json.Unmarshal(native, &natives); err != nil {
			return err
		}
		var old *ProofVectors
		if *deterministic {
			path := "tests/vectors/proofs.json"
			if len(rest) == 1 {
				path = rest[0]
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := json.Unmarshal(content, &old); err != nil {
				return err
			}
		}
		return printJSON(makeProofVectors(natives, old))

	case args[0] == "challenge" && len(rest) == 1:
		made, err := makeChallenge(rest[0])
		if err != nil {
			return err
		}
		return printJSON(made)

	case args[0] == "prove" && len(rest) == 1:
		identities, err := readIdentities(rest[0])
		if err != nil {
			return err
		}
		var asked ProofVector
		if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
			return err
		}
		proof, err := answer(&asked, identities)
		if err != nil {
			return err
		}
		fmt.Println(proof)
		return nil

	case args[0] == "template" && len(rest) == 0:
		return render(os.Stdout, os.Stdin)

	case args[0] == "cctv" && len(rest) == 1:
		return writeCCTV(rest[0])

	case args[0] == "age-encrypt" && len(rest) == 1:
		r, err := parseRecipient(rest[0])
		if err != nil {
			return err
		}
		plain, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		file, err := encrypt(plain, r)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(file)
		return err

	case args[0] == "age-decrypt" && len(rest) == 1:
		return decryptTo(os.Stdout, os.Stdin, rest[0])

	case args[0] == "age" && *decryptFlag && *identityFile != "" && len(rest) <= 1:
		input := os.Stdin
		if len(rest) == 1 && rest[0] != "-" {
			file, err := os.Open(rest[0])
			if err != nil {
				return err
			}
			defer file.Close()
			input = file
		}
		return decryptTo(os.Stdout, input, *identityFile)

	case args[0] == "age-keygen" && *recipientsOf != "" && len(rest) == 0:
		content, err := os.ReadFile(*recipientsOf)
		if err != nil {
			return err
		}
		recipients, err := recipientsIn(string(content))
		if err != nil {
			return err
		}
		for _, r := range recipients {
			fmt.Println(r)
		}
		return nil

	case args[0] == "age-keygen" && len(rest) == 1:
		file, err := keygen(rest[0])
		if err != nil {
			return err
		}
		fmt.Print(file)
		return nil
	}
	return errUsage
}

func (s *SealedSecret) open(identities []Identity) (map[string][]byte, error) {
	values := map[string][]byte{}
	for _, key := range sortedKeys(s.Items) {
		value, err := s.openItem(key, identities)
		if err != nil {
			return nil, fail(class(err), "item %q: %s", key, err.(*Error).Message)
		}
		values[key] = value
	}
	return values, nil
}

func decryptTo(w io.Writer, r io.Reader, identityFile string) error {
	identities, err := readIdentities(identityFile)
	if err != nil {
		return err
	}
	plain, err := decrypt(r, identities)
	if err != nil {
		return err
	}
	_, err = w.Write(plain)
	return err
}

// readValues reads {key: base64 of the value}.
func readValues() (map[string][]byte, error) {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	if _, err := strictJSON(input); err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	return values, json.Unmarshal(input, &values)
}

func parseInput() (*SealedSecret, error) {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	return parse(input)
}

func printJSON(v any) error {
	text, err := prettyJSON(v)
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	return err
}

func prettyJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(v)
	return out.Bytes(), err
}

// must is for errors that only a mistake in this program can cause.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
