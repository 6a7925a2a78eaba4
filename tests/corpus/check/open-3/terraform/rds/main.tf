terraform {
  required_version = ">= 1.6"
}

resource "random_password" "db" {
  length  = 24
  special = false
}

resource "aws_db_instance" "shop" {
  identifier     = "shop"
  engine         = "postgres"
  instance_class = "db.t4g.medium"
  username       = "shop"
  password       = random_password.db.result
}

resource "aws_db_instance" "legacy" {
  identifier = "legacy"
  engine     = "mysql"
  username   = "legacy"
  password   = "Altbestand_2014"
  password_wo_version = 1
}

locals {
  api_token = "4c1e2xk84n21jsvyxrhzm7i3nx0kga4y"
  secret_name = "shop/db/Main01"
  broker_url = "amqps://orders:K4rnickel@mq.example.net:5671"
}
