terraform {
  required_version = ">= 1.6"
  backend "s3" {
    bucket = "orderly-tf"
    key    = "prod/terraform.tfstate"
    region = "eu-central-1"
  }
}

provider "grafana" {
  url  = "https://grafana.orderly.example"
  auth = "admin:q8ZtW3nB06xVk"
}

resource "random_password" "db" {
  length  = 32
  special = false
}

resource "aws_db_instance" "main" {
  identifier                  = "orderly"
  username                    = "orderly"
  password                    = random_password.db.result
  manage_master_user_password = false
}

resource "aws_db_instance" "legacy" {
  identifier = "orderly-legacy"
  username   = "root"
  password   = "L3gacy-Feldspat"
}

resource "kubernetes_secret" "db" {
  metadata {
    name      = "db"
    namespace = "orderly"
  }
  data = {
    password = random_password.db.result
    url      = "postgres://orderly:${random_password.db.result}@${aws_db_instance.main.address}/orderly"
  }
}

resource "kubernetes_secret_v1" "partner" {
  metadata { name = "partner" }
  data = {
    "client-id"     = var.partner_id
    "client-secret" = "pt-Amphibol-31"
  }
}

resource "helm_release" "vault" {
  name       = "vault"
  repository = "https://helm.releases.example.com"
  chart      = "vault"
  set {
    name  = "server.logLevel"
    value = "debug"
  }
  set_sensitive {
    name  = "injector.authPassword"
    value = var.injector_password
  }
  set_sensitive {
    name  = "unseal.token"
    value = "un5-Serpentin-X"
  }
  values = [file("${path.module}/vault-settings.yaml")]
}

data "aws_secretsmanager_secret_version" "api" {
  secret_id = "prod/api/token"
}

output "db_password" {
  value     = random_password.db.result
  sensitive = true
}

locals {
  db_secret_name = "orderly-db"
  ci_api_key     = "ci-Olivin-700"
  token_ttl      = "24h"
  kubeconfig_path = "~/.kube/config"
}
