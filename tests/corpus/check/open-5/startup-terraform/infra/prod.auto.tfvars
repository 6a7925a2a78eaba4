region            = "eu-central-1"
datadog_api_key   = "dd4c19e0b7f2a6358c"
db_password       = "pr0d-Glimmer"
smtp_password     = "" # from the environment
acm_certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/0d1c2b3a-1111-2222-3333-444455556666"
secret_arn        = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:prod/db-AbCdEf"
password_policy   = { minimum_length = 14 }
