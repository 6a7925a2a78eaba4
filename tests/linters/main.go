// Linters judges what is shipped for other programs by those programs' own code, or by what they publish: workflows, documents
// with a JSON schema, health checks, rules and dashboards of Prometheus and Grafana. Tests and `cargo xtask test` run it; nobody ships it.
package main

import (
	"errors"
	"fmt"
	"os"
)

const usage = `usage:
  linters workflows FILE…       GitHub workflows, by actionlint
  linters sarif FILE…           reports, by the schema that OASIS publishes
  linters schema SCHEMA FILE…   documents in YAML or JSON, by a JSON schema
  linters health CONFIG_MAP     objects (a line of JSON each) to what Argo CD, by the Lua in its ConfigMap, and kstatus make of them
  linters rules FILE            a PrometheusRule, by Prometheus: the metrics that it asks for, with the labels
  linters dashboard FILE        the same of a Grafana dashboard
`

var errUsage = errors.New("usage")

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "workflows":
		return lintWorkflows(args[1:])
	case len(args) >= 2 && args[0] == "sarif":
		return validateSARIF(args[1:])
	case len(args) >= 3 && args[0] == "schema":
		return validate(args[1], args[2:])
	case len(args) == 2 && args[0] == "health":
		return health(args[1], os.Stdout, os.Stdin)
	case len(args) == 2 && args[0] == "rules":
		return rules(args[1], os.Stdout)
	case len(args) == 2 && args[0] == "dashboard":
		return dashboard(args[1], os.Stdout)
	}
	return errUsage
}
