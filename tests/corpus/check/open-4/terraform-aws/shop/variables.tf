variable "db_password" {
  description = "Password of the database, at least 12 characters"
  type        = string
  sensitive   = true
}

variable "cache_token" {
  type    = string
  default = "c4che-T0ken-9f"
}

variable "mail_password" {
  type    = string
  default = ""
}

variable "admin_password" {
  type    = string
  default = null
  validation {
    condition     = var.admin_password == null || length(var.admin_password) >= 12
    error_message = "The admin password needs 12 characters."
  }
}

variable "password_length" {
  default = 24
}

variable "token_name" {
  default = "ci-Deployer-2024"
}

locals {
  smtp_password  = "Br1ef-Traeger"
  db_secret_name = "shop-db"
  tags           = { owner = "shop", token = "none" }
  api_keys       = [for k in var.keys : k.value]
}

output "db_password" {
  value     = random_password.db.result
  sensitive = true
}
