variable "db_password" {
  type        = string
  description = "Password of the main database"
  sensitive   = true
}

variable "redis_auth_token" {
  type    = string
  default = "rd-Pyroxen-6402"
}

variable "admin_password" {
  type    = string
  default = ""
  validation {
    condition     = length(var.admin_password) >= 12
    error_message = "The admin_password must have 12 characters."
  }
}

variable "api_token" {
  type    = string
  default = null
}

variable "webhooks" {
  type    = map(object({ url = string, secret = string }))
  default = {}
}

variable "ssh_public_key" {
  default = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0YvYKuASokufJjMG/EOpeAnJlbkKVrt/WUmPt5WFDB deploy@build"
}
