variable "db_password" {
  type      = string
  sensitive = true
}
resource "kubernetes_secret_v1" "db" {
  metadata { name = "db" }
  data = {
    password = var.db_password
  }
}
