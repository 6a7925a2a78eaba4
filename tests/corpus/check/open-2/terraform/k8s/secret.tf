resource "kubernetes_secret_v1" "grafana" {
  metadata {
    name      = "grafana"
    namespace = "mon"
  }
  data = {
    admin-password = "Uferpromenade-West5"
  }
}
