terraform {
  required_providers {
    helm = { source = "hashicorp/helm", version = "~> 2.15" }
  }
}

resource "random_password" "db" {
  length  = 24
  special = false
}

resource "kubernetes_secret" "db" {
  metadata { name = "db" }
  data = {
    username = "shop"
    password = random_password.db.result
  }
}

resource "kubernetes_secret_v1" "tls" {
  metadata { name = "tls" }
  type = "kubernetes.io/tls"
  data = {
    "tls.crt" = file("${path.module}/tls.crt")
    "tls.key" = var.tls_key
  }
}

resource "helm_release" "redis" {
  name  = "redis"
  chart = "redis"
  set {
    name  = "auth.password"
    value = "Hasel-Maus_2"
  }
  set_sensitive {
    name  = "auth.sentinelPassword"
    value = var.sentinel_password
  }
  set {
    name  = "auth.existingSecretPasswordKey"
    value = "redis-password"
  }
}

resource "aws_db_instance" "dw" {
  engine                      = "postgres"
  username                    = "dw"
  password                    = "Sauer${var.env}Ampfer5"
  manage_master_user_password = false
  kms_key_id                  = "arn:aws:kms:eu-central-1:123456789012:key/8c2d1f0e-1111-4222-8333-a4b5c6d7e8f9"
}
