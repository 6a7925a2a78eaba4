resource "helm_release" "grafana" {
  name  = "grafana"
  chart = "grafana"
  set_sensitive {
    name  = "adminPassword"
    value = var.grafana_password
  }
  values = [<<-EOT
    adminUser: admin
    smtp:
      password: UQnUsmEUZJ+2kK
  EOT
  ]
}
