variable "db_password" {
  type    = string
  default = "Pappelallee_19"
}

resource "postgresql_role" "app" {
  name     = "app"
  login    = true
  password = var.db_password
}

resource "rabbitmq_user" "worker" {
  name     = "worker"
  password = "Sandbank+Ebbe4"
}
