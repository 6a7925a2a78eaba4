resource "kubernetes_secret_v1" "mail" {
  metadata {
    name      = "mail"
    namespace = "web"
  }
  data = {
    host     = "smtp.corp.internal"
    password = "pW5Z3JBpfdow2q2T"
  }
}
