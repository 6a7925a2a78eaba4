resource "helm_release" "web" {
  name  = "web"
  chart = "web"
  values = [<<-EOT
    replicas: 2
    auth:
      password: Orch4rd-Gate
      existingSecret: ""
    EOT
  ]
}
