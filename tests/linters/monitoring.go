package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sort"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// metrics of an expression, each with the names of the labels that it is asked by.
type metrics map[string]map[string]bool

func (m metrics) of(expression string) error {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return fmt.Errorf("%s: %w", expression, err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			name := selector.Name
			asked := map[string]bool{}
			for _, matcher := range selector.LabelMatchers {
				if matcher.Name == labels.MetricName {
					name = matcher.Value
				} else {
					asked[matcher.Name] = true
				}
			}
			if m[name] == nil {
				m[name] = map[string]bool{}
			}
			for label := range asked {
				m[name][label] = true
			}
		}
		return nil
	})
	return nil
}

func (m metrics) print(w io.Writer) error {
	out := map[string][]string{}
	for name, asked := range m {
		out[name] = []string{}
		for label := range asked {
			out[name] = append(out[name], label)
		}
		sort.Strings(out[name])
	}
	return json.NewEncoder(w).Encode(out)
}

// rules reads a PrometheusRule as Prometheus would its groups, and prints the metrics that its expressions ask for.
func rules(path string, w io.Writer) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var resource struct {
		Kind string
		Spec yaml.Node
	}
	if err := yaml.Unmarshal(content, &resource); err != nil {
		return err
	}
	if resource.Kind != "PrometheusRule" {
		return fmt.Errorf("%s is a %s, and no PrometheusRule", path, resource.Kind)
	}
	groups, err := yaml.Marshal(&resource.Spec)
	if err != nil {
		return err
	}
	parsed, errs := rulefmt.Parse(groups, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		return fmt.Errorf("%s: %v", path, errs)
	}
	found := metrics{}
	for _, group := range parsed.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["runbook_url"] == "" {
				return fmt.Errorf("%s: the rule %q lacks a name, a severity, a summary or a runbook_url", path, rule.Alert)
			}
			if err := found.of(rule.Expr); err != nil {
				return err
			}
		}
	}
	return found.print(w)
}

// dashboard reads a Grafana dashboard, and prints the metrics that its panels and variables ask for.
func dashboard(path string, w io.Writer) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var board struct {
		Title         string
		UID           string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &board); err != nil {
		return err
	}
	if board.Title == "" || board.UID == "" || board.SchemaVersion == 0 || len(board.Panels) == 0 {
		return fmt.Errorf("%s: a dashboard has a title, a uid, a schemaVersion and panels", path)
	}
	found := metrics{}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, panel := range board.Panels {
		if panel.Title == "" || panel.ID == 0 || ids[panel.ID] {
			return fmt.Errorf("%s: the panel %q (%d) needs a title and an id of its own", path, panel.Title, panel.ID)
		}
		ids[panel.ID] = true
		at := panel.GridPos
		if at.W <= 0 || at.H <= 0 || at.X+at.W > 24 {
			return fmt.Errorf("%s: the panel %q does not fit the grid", path, panel.Title)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other, there := taken[[2]int{x, y}]; there {
					return fmt.Errorf("%s: the panels %q and %q lie on each other", path, panel.Title, other)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
		if panel.Type != "row" && len(panel.Targets) == 0 {
			return fmt.Errorf("%s: the panel %q shows nothing", path, panel.Title)
		}
		for _, target := range panel.Targets {
			if err := found.of(expand(target.Expr)); err != nil {
				return fmt.Errorf("%s: the panel %q: %w", path, panel.Title, err)
			}
		}
	}
	return found.print(w)
}

// expand puts values in the place of Grafana's own variables.
func expand(expression string) string {
	return variables.Replace(expression)
}

var variables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$namespace", "bulla-system")
