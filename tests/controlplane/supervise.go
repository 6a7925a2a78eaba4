package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Commands, one a line on stdin, each answered with one line of JSON:
//
//	kill X       SIGKILL, and wait for the end
//	stop X       SIGTERM, and wait for the end
//	pause X      SIGSTOP
//	resume X     SIGCONT
//	start X      start it with the arguments it had; does not wait for readiness
//	restart X    kill it if it runs, then start it
//	ready        wait until the API server says that it is ready
//	status       which of the three run, with their pids
//
// X is etcd, apiserver or kcm. End of file, SIGTERM and SIGINT stop everything and remove the directory: a parent that
// was killed leaves nothing behind.
const (
	etcd      = "etcd"
	apiserver = "apiserver"
	kcm       = "kcm"
)

// The order in which they are started.
var order = []string{etcd, apiserver, kcm}

// Loaded machines take their time: the usual start is under three seconds.
const readyTimeout = 2 * time.Minute

// component is one of the three programs. Only the main goroutine touches it.
type component struct {
	args   []string // the program and its arguments
	log    string   // file that takes its output
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended and was waited for
}

func (c *component) running() bool {
	if c.cmd == nil {
		return false
	}
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

func (c *component) start() error {
	if c.running() {
		return errors.New("it is running")
	}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	c.cmd, c.exited = cmd, exited
	return nil
}

// signal sends a signal; ending ones are waited for.
func (c *component) signal(ctx context.Context, sig syscall.Signal, wait bool) error {
	if !c.running() {
		return errors.New("it is not running")
	}
	if err := c.cmd.Process.Signal(sig); err != nil {
		return err
	}
	if !wait {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-c.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *component) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	if len(text) > 4096 {
		text = text[len(text)-4096:]
	}
	return string(text)
}

type plane struct {
	dir        string
	advertise  string
	server     string
	token      string
	kubeconfig string
	ca         []byte // DER
	http       *http.Client
	parts      map[string]*component
	more       map[string][]string // arguments after ours, by component
}

// facts is what the parent is told when the API server is ready.
type facts struct {
	Server     string              `json:"server"`
	Kubeconfig string              `json:"kubeconfig"`
	Token      string              `json:"token"`
	CAFile     string              `json:"caFile"`
	CA         string              `json:"ca"` // base64 of the DER certificate
	Dir        string              `json:"dir"`
	Version    string              `json:"version"`
	StartedMS  int64               `json:"startedMs"`
	Pids       map[string]int      `json:"pids"`
	Args       map[string][]string `json:"args"`
	Logs       map[string]string   `json:"logs"`
}

type answer struct {
	OK    bool           `json:"ok"`
	Error string         `json:"error,omitempty"`
	Pids  map[string]int `json:"pids,omitempty"`
}

func supervise(args []string) int {
	// The kernel sends a child its parent-death signal when the thread that started it ends. This goroutine, from
	// which every child is started, keeps its thread for as long as the process lives.
	runtime.LockOSThread()
	began := time.Now()

	flags := flag.NewFlagSet("supervise", flag.ExitOnError)
	dir := flags.String("dir", "", "work directory: made, and removed at the end (required; must be missing or empty)")
	advertise := flags.String("advertise-address", "198.51.100.1",
		"address that the API server writes into its own Endpoints; nothing listens there, so by default one that is reserved for documentation")
	keep := flags.Bool("keep", false, "leave the directory, with its logs, behind")
	more := map[string][]string{}
	for _, name := range order {
		flags.Func(name+"-arg", "further argument of "+name+", after our own; may be repeated", func(arg string) error {
			more[name] = append(more[name], arg)
			return nil
		})
	}
	_ = flags.Parse(args)
	if *dir == "" || flags.NArg() > 0 {
		flags.Usage()
		return 2
	}

	// What the programs are given must not depend on the caller's settings.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "KUBECONFIG"} {
		_ = os.Unsetenv(name)
	}
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "ETCD_") {
			_ = os.Unsetenv(name)
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
	}()
	// A closed stdout must not end this process before it has cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	lines := make(chan string)
	go func() {
		defer cancel()
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			select {
			case lines <- input.Text():
			case <-ctx.Done():
				return
			}
		}
	}()

	root, err := claim(*dir)
	if err != nil {
		say(answer{Error: err.Error()})
		return 1
	}
	p := &plane{dir: root, advertise: *advertise, more: more, parts: map[string]*component{}}
	defer func() {
		p.end()
		if !*keep {
			_ = os.RemoveAll(root)
		}
	}()

	if err := p.begin(ctx); err != nil {
		say(answer{Error: err.Error()})
		return 1
	}
	f := facts{
		Server: p.server, Kubeconfig: p.kubeconfig, Token: p.token, Dir: p.dir,
		CAFile: p.path("ca.crt"), CA: base64.StdEncoding.EncodeToString(p.ca),
		Version: p.version(ctx), StartedMS: time.Since(began).Milliseconds(),
		Pids: p.pids(), Args: map[string][]string{}, Logs: map[string]string{},
	}
	for name, part := range p.parts {
		f.Args[name], f.Logs[name] = part.args, part.log
	}
	say(f)

	for {
		select {
		case <-ctx.Done():
			return 0
		case line := <-lines:
			if err := p.obey(ctx, strings.Fields(line)); err != nil {
				say(answer{Error: fmt.Sprintf("%s: %v", strings.TrimSpace(line), err), Pids: p.pids()})
			} else {
				say(answer{OK: true, Pids: p.pids()})
			}
		}
	}
}

func say(value any) {
	_ = json.NewEncoder(os.Stdout).Encode(value)
}

// claim makes the work directory. One that holds something is refused, as it would be removed at the end.
func claim(dir string) (string, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty", root)
	}
	return root, nil
}

func (p *plane) path(name string) string { return filepath.Join(p.dir, name) }

func (p *plane) pids() map[string]int {
	pids := map[string]int{}
	for name, part := range p.parts {
		if part.running() {
			pids[name] = part.cmd.Process.Pid
		}
	}
	return pids
}

func (p *plane) obey(ctx context.Context, words []string) error {
	if len(words) == 1 {
		switch words[0] {
		case "ready":
			return p.ready(ctx)
		case "status":
			return nil
		}
	}
	if len(words) != 2 {
		return errors.New("not a command")
	}
	part := p.parts[words[1]]
	if part == nil {
		return errors.New("no such component; there are etcd, apiserver and kcm")
	}
	switch words[0] {
	case "kill":
		return part.signal(ctx, syscall.SIGKILL, true)
	case "stop":
		return part.signal(ctx, syscall.SIGTERM, true)
	case "pause":
		return part.signal(ctx, syscall.SIGSTOP, false)
	case "resume":
		return part.signal(ctx, syscall.SIGCONT, false)
	case "start":
		return part.start()
	case "restart":
		if part.running() {
			if err := part.signal(ctx, syscall.SIGKILL, true); err != nil {
				return err
			}
		}
		return part.start()
	}
	return errors.New("not a command")
}

// begin starts the three, on other ports when somebody else was quicker to take one.
func (p *plane) begin(ctx context.Context) error {
	if err := p.credentials(); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := p.try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		taken := strings.Contains(err.Error(), "address already in use")
		p.end()
		if !taken || attempt == 5 {
			return err
		}
		_ = os.RemoveAll(p.path("etcd"))
		for _, part := range p.parts {
			_ = os.Remove(part.log)
		}
	}
}

func (p *plane) try(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	p.server = "https://127.0.0.1:" + ports[2]
	if err := p.writeKubeconfigs(); err != nil {
		return err
	}
	if err := p.arguments(ports); err != nil {
		return err
	}
	for _, name := range order {
		if name == kcm {
			// It gives up after ten seconds without an API server.
			if err := p.ready(ctx); err != nil {
				return err
			}
		}
		if err := p.parts[name].start(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// ready waits for the API server, and fails at once when it or etcd has ended.
func (p *plane) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	last := "no answer yet"
	for {
		for _, name := range []string{etcd, apiserver} {
			if part := p.parts[name]; !part.running() {
				return fmt.Errorf("%s is not running; the end of its log:\n%s", name, part.tail())
			}
		}
		status, body, err := p.get(ctx, "/readyz")
		switch {
		case err != nil:
			last = err.Error()
		case status != http.StatusOK:
			last = body
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server is not ready: %s; the end of its log:\n%s", last, p.parts[apiserver].tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *plane) version(ctx context.Context) string {
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	_, body, err := p.get(ctx, "/version")
	if err == nil {
		err = json.Unmarshal([]byte(body), &version)
	}
	if err != nil {
		return "unknown"
	}
	return version.GitVersion
}

func (p *plane) get(ctx context.Context, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.server+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+p.token)
	response, err := p.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// end kills what runs: nothing of it is needed any more, and an orderly end takes the API server seconds.
func (p *plane) end() {
	for i := len(order) - 1; i >= 0; i-- {
		if part := p.parts[order[i]]; part != nil && part.running() {
			_ = part.cmd.Process.Kill()
		}
	}
	for _, part := range p.parts {
		if part.cmd != nil {
			<-part.exited
		}
	}
}

// freePorts finds ports below the range from which the kernel takes those of outgoing connections: a program that is
// killed and started again gets its port back.
func freePorts(n int) ([]string, error) {
	var ports []string
	for attempt := 0; len(ports) < n; attempt++ {
		if attempt == 1000 {
			return nil, errors.New("no free ports")
		}
		port := strconv.Itoa(12000 + mathrand.IntN(18000))
		listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer listener.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

// programs says how each is called: as the caller's binaries, by envtest's conventions, or as a mode of this one.
func programs() (map[string][]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	programs := map[string][]string{
		etcd:      {self, "etcd"},
		apiserver: {self, "kube-apiserver"},
		kcm:       {self, "kube-controller-manager"},
	}
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	for name, from := range map[string]struct{ file, variable string }{
		etcd:      {"etcd", "TEST_ASSET_ETCD"},
		apiserver: {"kube-apiserver", "TEST_ASSET_KUBE_APISERVER"},
		kcm:       {"kube-controller-manager", "TEST_ASSET_KUBE_CONTROLLER_MANAGER"},
	} {
		path := os.Getenv(from.variable)
		if path == "" && assets != "" {
			path = filepath.Join(assets, from.file)
			// envtest's assets hold no kube-controller-manager.
			if _, err := os.Stat(path); name == kcm && err != nil {
				continue
			}
		}
		if path == "" {
			continue
		}
		if _, err := exec.LookPath(path); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		programs[name] = []string{path}
	}
	return programs, nil
}

func (p *plane) arguments(ports []string) error {
	programs, err := programs()
	if err != nil {
		return err
	}
	client, peer, secure := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1], ports[2]
	arguments := map[string][]string{
		etcd: {
			"--name=test",
			"--data-dir=" + p.path("etcd"),
			"--listen-client-urls=" + client,
			"--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer,
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=test=" + peer,
			"--log-level=warn",
			// The page cache survives every signal; only a crash of the machine loses something.
			"--unsafe-no-fsync",
		},
		apiserver: {
			"--etcd-servers=" + client,
			"--bind-address=127.0.0.1",
			"--secure-port=" + secure,
			// Without it, kube-apiserver wants a default route.
			"--advertise-address=" + p.advertise,
			"--service-cluster-ip-range=10.96.0.0/16",
			"--cert-dir=" + p.path("certs"),
			"--tls-cert-file=" + p.path("server.crt"),
			"--tls-private-key-file=" + p.path("server.key"),
			"--token-auth-file=" + p.path("tokens.csv"),
			"--authorization-mode=RBAC",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + p.path("service-account.key"),
			"--service-account-signing-key-file=" + p.path("service-account.key"),
			// It would hold Pods back until their namespace has a service account; no Pod is ever run.
			"--disable-admission-plugins=ServiceAccount",
			"--allow-privileged=true",
			"--profiling=false",
		},
		kcm: {
			"--kubeconfig=" + p.path("kcm.kubeconfig"),
			"--controllers=garbage-collector-controller,namespace-controller," +
				"serviceaccount-controller,serviceaccount-token-controller",
			"--service-account-private-key-file=" + p.path("service-account.key"),
			"--root-ca-file=" + p.path("ca.crt"),
			"--leader-elect=false",
			"--secure-port=0",
			"--profiling=false",
		},
	}
	for name, program := range programs {
		p.parts[name] = &component{args: slices.Concat(program, arguments[name], p.more[name]), log: p.path(name + ".log")}
	}
	return nil
}

// credentials makes the certificates, the service account key and the tokens.
func (p *plane) credentials() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bulla tests"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(7 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	if p.ca, err = x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serving := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if ip := net.ParseIP(p.advertise); ip != nil {
		serving.IPAddresses = append(serving.IPAddresses, ip)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, serving, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	p.token = randomToken()
	managerToken := randomToken()
	if err := errors.Join(
		p.writePEM("ca.crt", "CERTIFICATE", p.ca),
		p.writePEM("server.crt", "CERTIFICATE", certificate),
		p.writeKey("server.key", key),
		p.writeKey("service-account.key", accounts),
		p.write("kcm.token", managerToken),
		p.write("tokens.csv", fmt.Sprintf("%s,admin,admin,system:masters\n%s,controller-manager,controller-manager,system:masters\n",
			p.token, managerToken)),
	); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(p.ca)
	if err != nil {
		return err
	}
	roots.AddCert(parsed)
	p.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	return nil
}

func (p *plane) writeKubeconfigs() error {
	managerToken, err := os.ReadFile(p.path("kcm.token"))
	if err != nil {
		return err
	}
	p.kubeconfig = p.path("kubeconfig")
	return errors.Join(
		p.write("kubeconfig", p.kubeconfigFor("admin", p.token)),
		p.write("kcm.kubeconfig", p.kubeconfigFor("controller-manager", string(managerToken))),
	)
}

func (p *plane) kubeconfigFor(user, token string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: test
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %s
  user:
    token: %s
contexts:
- name: test
  context:
    cluster: test
    user: %s
current-context: test
`, p.server, base64.StdEncoding.EncodeToString(asPEM("CERTIFICATE", p.ca)), user, token, user)
}

func (p *plane) write(name, text string) error {
	return os.WriteFile(p.path(name), []byte(text), 0o600)
}

func (p *plane) writePEM(name, kind string, der []byte) error {
	return p.write(name, string(asPEM(kind, der)))
}

func (p *plane) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return p.writePEM(name, "EC PRIVATE KEY", der)
}

func asPEM(kind string, der []byte) []byte {
	var out bytes.Buffer
	_ = pem.Encode(&out, &pem.Block{Type: kind, Bytes: der})
	return out.Bytes()
}

func randomToken() string {
	var token [24]byte
	_, _ = rand.Read(token[:]) // never fails
	return hex.EncodeToString(token[:])
}
