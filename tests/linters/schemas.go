package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

//go:embed sarif-schema-2.1.0.json
var sarifSchema []byte

func validateSARIF(paths []string) error {
	schema, err := compile(sarifSchema)
	if err != nil {
		return err
	}
	return validateAll(schema, paths)
}

func validate(schemaPath string, paths []string) error {
	content, err := os.ReadFile(schemaPath)
	if err != nil {
		return err
	}
	schema, err := compile(content)
	if err != nil {
		return err
	}
	return validateAll(schema, paths)
}

func compile(content []byte) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	// Formats, as uri and date-time, are asserted and not only noted.
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", document); err != nil {
		return nil, err
	}
	return compiler.Compile("schema.json")
}

func validateAll(schema *jsonschema.Schema, paths []string) error {
	count := 0
	for _, path := range paths {
		documents, err := read(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, document := range documents {
			if err := schema.Validate(document); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			count++
		}
	}
	fmt.Printf("%d documents\n", count)
	return nil
}

// read returns the documents of a file as a JSON decoder would have them: JSON is YAML.
func read(path string) ([]any, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var all []any
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var document any
		if err := dates(&node).Decode(&document); err != nil {
			return nil, err
		}
		text, err := json.Marshal(document)
		if err != nil {
			return nil, err
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		all = append(all, value)
	}
}

// dates makes texts of what YAML 1.1 takes for times: to YAML 1.2 and to JSON they are texts.
func dates(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!timestamp" {
		node.SetString(node.Value)
	}
	for _, inner := range node.Content {
		dates(inner)
	}
	return node
}
