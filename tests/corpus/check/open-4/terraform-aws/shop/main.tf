terraform {
  required_version = ">= 1.6"
  backend "s3" {
    bucket = "acme-tfstate"
    key    = "shop/prod/terraform.tfstate"
  }
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.60" }
  }
}

provider "grafana" {
  url  = "https://grafana.acme.example"
  auth = "9047c1e2b8d655fa0"
}

provider "postgresql" {
  host     = aws_db_instance.shop.address
  username = "root"
  password = random_password.db.result
}

resource "random_password" "db" {
  length           = 24
  override_special = "!#$%&*()-_=+[]{}<>:?"
}

resource "aws_db_instance" "shop" {
  identifier                  = "shop"
  engine                      = "postgres"
  username                    = "shop"
  password                    = "Rds-f3st-1"
  iam_database_authentication_enabled = true
  kms_key_id                  = aws_kms_key.db.arn
}

resource "aws_db_instance" "audit" {
  identifier                  = "audit"
  manage_master_user_password = true
  master_user_secret_kms_key_id = "alias/rds"
}

resource "aws_elasticache_replication_group" "cache" {
  replication_group_id = "cache"
  auth_token           = var.cache_token
}

resource "aws_secretsmanager_secret" "app" {
  name                    = "shop/app/password"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret_version" "app" {
  secret_id = aws_secretsmanager_secret.app.id
  secret_string = jsonencode({
    username = "app"
    password = "jS0n-c0de"
    token    = random_password.db.result
  })
}

resource "aws_lambda_function" "hook" {
  function_name = "hook"
  environment {
    variables = {
      LOG_LEVEL     = "info"
      WEBHOOK_SECRET = "lmb-77-dA"
      API_TOKEN_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hook-a1b2c3"
      MONGO_URL     = "mongodb://hook:M0ng0-Baer@mongo.acme.example/hook?authSource=admin"
      REDIS_URL     = "redis://:${var.cache_token}@${aws_elasticache_replication_group.cache.primary_endpoint_address}:6379"
    }
  }
}

resource "aws_key_pair" "ops" {
  key_name   = "ops"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL2g+royBwn5lpeJ/ZG5v9cCOqAAga0+vbhMGve7XCk2 deploy@ci"
}

resource "aws_iam_account_password_policy" "strict" {
  minimum_password_length = 14
  max_password_age        = 90
}

resource "aws_instance" "bastion" {
  ami = "ami-0a1b2c3d4e5f60718"
  user_data = <<-EOT
    #cloud-config
    hostname: bastion
  EOT
  connection {
    type        = "ssh"
    user        = "ec2-user"
    private_key = file("~/.ssh/id_ed25519")
  }
}
