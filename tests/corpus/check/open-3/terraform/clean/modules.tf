module "db" {
  source  = "terraform-aws-modules/rds/aws"
  version = "6.8.0"

  manage_master_user_password = true
  password                    = sensitive(var.db_password)
  kms_key_id                  = "arn:aws:kms:eu-central-1:123456789012:key/4541e2a5-4c46-41d0-a800-bb53d00a4f3b"
}

data "aws_secretsmanager_secret_version" "db" {
  secret_id = "prod/shop/Db01"
}

output "db_password" {
  value     = module.db.db_instance_password
  sensitive = true
}
