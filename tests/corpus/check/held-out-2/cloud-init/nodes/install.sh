#!/usr/bin/env bash
set -euo pipefail
DB_PASSWORD=hagebutte11
kubectl create secret docker-registry pull \
  --docker-server=registry.acme.internal \
  --docker-username=robot \
  --docker-password='Salz&Streuer'
kubectl create secret generic db --from-literal=password="$DB_PASSWORD"
cat <<'YAML' | kubectl apply -f -
apiVersion: v1
kind: Secret
metadata:
  name: bootstrap
stringData:
  admin: "Glühwürmchen"
YAML
# kubectl create secret generic old --from-literal=password=Zaunreiter6
curl -u admin:"$ADMIN" https://registry.acme.internal/v2/
