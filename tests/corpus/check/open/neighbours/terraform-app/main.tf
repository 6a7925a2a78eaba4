terraform {
  required_version = ">= 1.5"
  backend "s3" {
    bucket = "tf-state"
    key    = "shop/terraform.tfstate"
    region = "eu-west-1"
  }
}

variable "db_password" {
  type      = string
  sensitive = true
}

variable "grafana_password" {
  type    = string
  default = "Tangerine-Dr3am"
}

locals {
  api_token   = "9d3f7b1c5a2e8046"
  secret_name = "shop-db"
}

resource "aws_db_instance" "shop" {
  engine              = "postgres"
  username            = "shop"
  password            = var.db_password
  skip_final_snapshot = true
}

resource "aws_db_instance" "reports" {
  engine   = "postgres"
  username = "reports"
  password = "Rep0rts-2022-Q4"
}

resource "random_password" "api" {
  length  = 24
  special = false
}

resource "kubernetes_secret" "api" {
  metadata {
    name      = "api"
    namespace = "shop"
  }
  data = {
    token    = random_password.api.result
    endpoint = var.endpoint
  }
}

resource "kubernetes_secret_v1" "legacy" {
  metadata { name = "legacy" }
  data = {
    user  = "legacy"
    token = "vK8-legacy-q2Z"
  }
}

resource "helm_release" "grafana" {
  name  = "grafana"
  chart = "grafana"
  set_sensitive {
    name  = "adminPassword"
    value = var.grafana_password
  }
  set {
    name  = "smtp.password"
    value = "p0stbox-Gr4f"
  }
}

data "aws_secretsmanager_secret_version" "db" {
  secret_id = "prod/db"
}

output "password" {
  value     = random_password.api.result
  sensitive = true
}
