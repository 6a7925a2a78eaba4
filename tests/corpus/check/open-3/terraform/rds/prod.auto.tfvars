region       = "eu-central-1"
smtp_password = "Taubenschlag.88"
key_name      = "ops-2026"
