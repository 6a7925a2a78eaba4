package e2e

const password = "go-Fischadler-1"

var manifest = `
apiVersion: v1
kind: Secret
metadata:
  name: go-fixture
stringData:
  password: gf-Schreiadler
`

const placeholder = `
apiVersion: v1
kind: Secret
metadata:
  name: %s
stringData:
  password: REPLACE_ME
`
