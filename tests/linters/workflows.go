package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"
)

// lintWorkflows looks at each file as if it were in a repository of its own: no configuration, no ShellCheck, no Pyflakes.
func lintWorkflows(paths []string) error {
	linter, err := actionlint.NewLinter(os.Stderr, &actionlint.LinterOptions{Color: actionlint.ColorOptionKindNever})
	if err != nil {
		return err
	}
	found := 0
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if base := filepath.Base(path); base == "action.yml" || base == "action.yaml" {
			if content, err = workflowOf(content); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		problems, err := linter.Lint(path, content, nil)
		if err != nil {
			return err
		}
		found += len(problems)
	}
	if found > 0 {
		return fmt.Errorf("actionlint finds %d problems", found)
	}
	fmt.Printf("%d workflows\n", len(paths))
	return nil
}

// workflowOf makes a workflow of a composite action's inputs and steps: actionlint reads nothing else.
func workflowOf(content []byte) ([]byte, error) {
	var action struct {
		Name        string
		Description string
		Inputs      map[string]struct {
			Description string
			Required    bool
			Default     string
		}
		Outputs map[string]any
		Runs    struct {
			Using string
			Steps []map[string]any
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&action); err != nil {
		return nil, err
	}
	if action.Name == "" || action.Description == "" || action.Runs.Using != "composite" {
		return nil, fmt.Errorf("a composite action has a name, a description and runs.using: composite")
	}
	inputs := map[string]any{}
	for name, input := range action.Inputs {
		if input.Description == "" {
			return nil, fmt.Errorf("the input %s has no description", name)
		}
		inputs[name] = map[string]any{
			"description": input.Description, "type": "string", "required": input.Required, "default": input.Default,
		}
	}
	for at, step := range action.Runs.Steps {
		if step["run"] != nil && step["shell"] == nil {
			return nil, fmt.Errorf("step %d runs something and has no shell", at+1)
		}
	}
	return yaml.Marshal(map[string]any{
		"on":   map[string]any{"workflow_dispatch": map[string]any{"inputs": inputs}},
		"jobs": map[string]any{"steps": map[string]any{"runs-on": "ubuntu-24.04", "steps": action.Runs.Steps}},
	})
}
