resource "kubernetes_secret" "mailer" {
  metadata {
    name      = "mailer"
    namespace = "shop"
  }
  data = {
    host = "mail.shop.svc"
    password = "Eilbote"
  }
}

resource "kubernetes_secret_v1" "from_vars" {
  metadata { name = "from-vars" }
  data = {
    password = var.password
    ca       = file("${path.module}/ca.crt")
  }
  type = "Opaque"
}

data "kubernetes_secret" "existing" {
  metadata { name = "existing" }
}
