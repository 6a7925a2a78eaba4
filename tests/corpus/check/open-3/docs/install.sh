#!/bin/sh
# Installs the demo. Usage: curl … | sh
set -eu
NS="${1:-demo}"
kubectl create namespace "$NS" || true
cat <<EOF | kubectl -n "$NS" apply -f -
apiVersion: v1
kind: Secret
metadata:
  name: demo-admin
type: kubernetes.io/basic-auth
stringData:
  username: demo
  password: Sommerfest!19
---
apiVersion: v1
kind: Secret
metadata:
  name: demo-generated
stringData:
  password: ${GENERATED}
EOF
echo "done. Log in at http://$NS.localhost"
