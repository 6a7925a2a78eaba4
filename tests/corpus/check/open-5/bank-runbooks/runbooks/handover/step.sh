#!/bin/sh
# example: kubectl create secret generic demo --from-literal=token=YOUR_TOKEN_HERE
set -eu
NS=${1:?namespace}
oc apply -n "$NS" -f - <<EOF
apiVersion: v1
kind: Secret
metadata: {name: handover}
type: Opaque
stringData:
  operator: ${OPERATOR}
  handover-pass: "Uebergabe!77"
EOF
cat <<'EOF' | oc apply -n "$NS" -f -
apiVersion: v1
kind: Secret
metadata: {name: from-env}
stringData:
  password: $HANDOVER_PASSWORD
EOF
DB_PASSWORD=local-Wiesel-4
oc create cm feature --from-literal=mode=handover
