#!/usr/bin/env bash
set -euo pipefail
NS=${1:-web}
: "${DB_PASSWORD:?}"

kubectl -n "$NS" create secret docker-registry pull \
  --docker-server=registry.example.org \
  --docker-username=pull \
  --docker-password="$REGISTRY_PASSWORD" --dry-run=client -o yaml | kubectl apply -f -

helm upgrade --install web charts/web -n "$NS" \
  --set-string db.password="$DB_PASSWORD" \
  --set smtp.password=Hochsitz-Lichtung4 \
  --wait

kubectl apply -f - <<EOF
apiVersion: v1
kind: Secret
metadata:
  name: web-session
  namespace: $NS
stringData:
  key: hXOSp5JAMBZfFnRybdHRX41Be2FaAjE2
EOF

kubectl apply -f - <<-YAML
	apiVersion: v1
	kind: Secret
	metadata: {name: web-db}
	stringData: {password: "${DB_PASSWORD}"} 
YAML
