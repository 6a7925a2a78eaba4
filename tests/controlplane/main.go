// Command controlplane is a Kubernetes control plane in one binary, for tests: kube-apiserver,
// kube-controller-manager and etcd, chosen by the first argument, and `supervise`, which runs the three.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcmapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	// Each program expects to be the first word of its command line, its flags from the second on.
	mode := os.Args[1]
	os.Args = append([]string{mode}, os.Args[2:]...)
	switch mode {
	case "kube-apiserver":
		os.Exit(cli.Run(apiserverapp.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(kcmapp.NewControllerManagerCommand()))
	case "etcd":
		etcdmain.Main(os.Args)
	case "supervise":
		os.Exit(supervise(os.Args[1:]))
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: controlplane kube-apiserver|kube-controller-manager|etcd|supervise ARGS...")
	os.Exit(2)
}
