resource "random_password" "db" {
  length  = 32
  special = false
}

variable "smtp_password" {
  type      = string
  sensitive = true
}

resource "kubernetes_secret" "db" {
  metadata {
    name      = "db"
    namespace = "shop"
  }
  data = {
    password = random_password.db.result
    smtp     = var.smtp_password
  }
}
