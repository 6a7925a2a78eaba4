package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// health tells for each object on standard input, a line of JSON each, what Argo CD and what kstatus make of it.
func health(configMap string, w io.Writer, r io.Reader) error {
	content, err := os.ReadFile(configMap)
	if err != nil {
		return err
	}
	var config struct{ Data map[string]string }
	if err := yaml.Unmarshal(content, &config); err != nil {
		return err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	out := json.NewEncoder(w)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		gvk := object.GroupVersionKind()
		script, found := config.Data["resource.customizations.health."+gvk.Group+"_"+gvk.Kind]
		if !found {
			return fmt.Errorf("%s has no health of %s", configMap, gvk.Kind)
		}
		argo, message, err := argoHealth(script, object.Object)
		if err != nil {
			return err
		}
		computed, err := status.Compute(object)
		if err != nil {
			return err
		}
		told := map[string]string{"argo": argo, "message": message, "kstatus": computed.Status.String()}
		if err := out.Encode(told); err != nil {
			return err
		}
	}
	return lines.Err()
}

// argoHealth runs a health script as Argo CD does: with the libraries that it opens, the object as `obj`, and a table as the answer.
func argoHealth(script string, object map[string]any) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	}
	for _, name := range []string{lua.LoadLibName, lua.BaseLibName, lua.TabLibName} {
		call := lua.P{Fn: state.NewFunction(libraries[name]), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(name)); err != nil {
			return "", "", err
		}
	}
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returns no table")
	}
	health := answer.RawGetString("status").String()
	switch health {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing":
	default:
		return "", "", fmt.Errorf("%q is no health", health)
	}
	message, ok := answer.RawGetString("message").(lua.LString)
	if !ok || message == "" {
		return "", "", fmt.Errorf("the script returns no message")
	}
	return health, string(message), nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, inner := range value {
			table.RawSetString(key, toLua(state, inner))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, inner := range value {
			table.Append(toLua(state, inner))
		}
		return table
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	}
	return lua.LNil
}
