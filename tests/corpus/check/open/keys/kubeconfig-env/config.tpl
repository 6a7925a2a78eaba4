apiVersion: v1
kind: Config
users:
- name: ci
  user: {token: "${KUBE_TOKEN}"}
