package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary plays `oracles` itself when this is set, and so the `age` that the tools of docs/break-glass.md call.
const playOracles = "BULLA_TEST_PLAY_ORACLES"

func TestMain(m *testing.M) {
	if os.Getenv(playOracles) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// need is the path of a program; without it the test is skipped, but not in CI.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, and this is CI", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

type pythonTool struct {
	python, identity string
	env              []string
}

func newPythonTool(t *testing.T, identities string, noPackages bool) pythonTool {
	t.Helper()
	p := pythonTool{python: need(t, "python3"), identity: filepath.Join(t.TempDir(), "identity.txt")}
	if err := os.WriteFile(p.identity, []byte(identities), 0o600); err != nil {
		t.Fatal(err)
	}
	self := must(os.Executable())
	p.env = append(os.Environ(), playOracles+"=1", "AGE="+self+" age", "AGE_KEYGEN="+self+" age-keygen")
	if noPackages { // a package that cannot be imported hides the one that can
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cryptography.py"), []byte("raise ImportError\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.env = append(p.env, "PYTHONPATH="+dir)
	}
	return p
}

// open gives the values, or the class of the error that the tool ends with.
func (p pythonTool) open(t *testing.T, input []byte) (map[string][]byte, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.Command(p.python, "../../docs/tools/bulla-open.py", p.identity)
	command.Stdin, command.Stdout, command.Stderr, command.Env = bytes.NewReader(input), &stdout, &stderr, p.env
	if err := command.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		parts := strings.SplitN(lines[len(lines)-1], ": ", 3)
		if len(parts) != 3 || parts[0] != "error" || stdout.Len() != 0 {
			t.Fatalf("not an error as it should be: %s%s", stdout.String(), stderr.String())
		}
		return nil, parts[1]
	}
	values := map[string][]byte{}
	if err := json.Unmarshal(stdout.Bytes(), &values); err != nil {
		t.Fatal(err)
	}
	return values, ""
}

func TestPythonOpensWhatGoSealed(t *testing.T) {
	v, _ := loadVectors(t)
	for _, noPackages := range []bool{false, true} {
		for i, scope := range []string{"strict", "namespace-wide", "cluster-wide"} {
			who := []string{"alice", "prod", "bob"}[i]
			t.Run(fmt.Sprintf("%s/%s/%t", scope, who, noPackages), func(t *testing.T) {
				t.Parallel()
				p := newPythonTool(t, "# carol first\n"+v.identityFile(t, "carol", who), noPackages)
				values := testValues()
				if i == 0 {
					values["large"] = stream("large", 700<<10)
				}
				m, err := seal(testRecipients(t, v, who), "shop", "db", scope, values, i == 1)
				if err != nil {
					t.Fatal(err)
				}
				got, class := p.open(t, must(json.Marshal(m)))
				if class != "" {
					t.Fatal(class)
				}
				sameValues(t, got, values)
			})
		}
	}
}

func TestPythonVectors(t *testing.T) {
	v, _ := loadVectors(t)
	for _, o := range v.Objects {
		t.Run(o.Name, func(t *testing.T) {
			t.Parallel()
			p := newPythonTool(t, v.identityFile(t, o.Identities...), false)
			got, class := p.open(t, must(json.Marshal(o.Manifest)))
			if class != "" {
				t.Fatal(class)
			}
			sameValues(t, got, o.Values)
		})
	}
	for _, n := range v.Negative {
		if n.Error == limitExceeded {
			continue // limits protect programs that run unattended; this one is run by hand
		}
		t.Run(n.Name, func(t *testing.T) {
			t.Parallel()
			p := newPythonTool(t, v.identityFile(t, n.Identities...), false)
			if _, class := p.open(t, n.input()); class != n.Error {
				t.Errorf("%q, want %s", class, n.Error)
			}
		})
	}
}

// yamlOf writes a SealedSecret of one data key as Bulla does.
func yamlOf(m *Manifest) string {
	out := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: %s\n  namespace: %s\nspec:\n  scope: %s\n  items:\n",
		m.APIVersion, m.Kind, m.Metadata.Name, m.Metadata.Namespace, m.Spec.Scope)
	for _, key := range sortedKeys(m.Spec.Items) {
		out += fmt.Sprintf("    %q:\n      sealed: >-\n        %s\n", key, m.Spec.Items[key].Sealed)
	}
	out += "  envelopes:\n"
	for _, name := range sortedKeys(m.Spec.Envelopes) {
		out += fmt.Sprintf("    %s: >-\n      %s\n", name, m.Spec.Envelopes[name])
	}
	return out
}

func TestPythonReadsYAML(t *testing.T) {
	v, _ := loadVectors(t)
	p := newPythonTool(t, v.identityFile(t, "alice"), false)
	if exec.Command(p.python, "-c", "import yaml").Run() != nil {
		t.Skip("PyYAML is not installed")
	}
	values := map[string][]byte{"on": []byte("x"), "password": []byte("y")}
	text := yamlOf(must(seal(testRecipients(t, v, "alice"), "shop", "db", "strict", values, false)))
	got, class := p.open(t, []byte(text))
	if class != "" {
		t.Fatal(class)
	}
	sameValues(t, got, values)
	for name, bad := range map[string]string{
		"a key twice": strings.Replace(text, "  scope: strict\n", "  scope: strict\n  scope: strict\n", 1),
		"an anchor":   strings.Replace(text, "spec:\n", "spec: &a\n", 1),
		"a tag":       strings.Replace(text, "scope: strict", "scope: !x strict", 1),
	} {
		if _, class := p.open(t, []byte(bad)); class != malformed {
			t.Errorf("%s: %q", name, class)
		}
	}
}

// TestByHand runs the shell commands of docs/break-glass.md.
func TestByHand(t *testing.T) {
	sh := need(t, "sh")
	need(t, "openssl")
	v, _ := loadVectors(t)
	page := string(must(os.ReadFile("../../docs/break-glass.md")))
	_, block, found := strings.Cut(page, "runs this block -->\n```sh\n")
	block, _, _ = strings.Cut(block, "```")
	if !found {
		t.Fatal("the block is not there")
	}
	for i, scope := range []string{"strict", "namespace-wide", "cluster-wide"} {
		value := stream("by hand", []int{0, 61, 5000}[i])
		m := must(seal(testRecipients(t, v, "alice"), "shop", "db", scope, map[string][]byte{"password": value}, false))
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/identity.txt", []byte(v.identityFile(t, "alice")), 0o600); err != nil {
			t.Fatal(err)
		}
		namespace, name := bound(scope, "shop", "db")
		command := exec.Command(sh, "-euc", `age() { "$SELF" age "$@"; }`+"\n"+block)
		command.Dir = dir
		command.Env = append(os.Environ(), playOracles+"=1", "SELF="+must(os.Executable()), "scope="+scope, "namespace="+namespace,
			"name="+name, "key=password", "sealed="+m.Spec.Items["password"].Sealed, "envelope="+m.Spec.Envelopes["alice"])
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !bytes.Equal(must(os.ReadFile(dir+"/value")), value) {
			t.Errorf("%s: another value", scope)
		}
	}
}
