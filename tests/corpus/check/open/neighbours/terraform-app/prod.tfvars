region           = "eu-west-1"
db_password      = "M0nsoon-Prod-1"
api_keys = {
  stripe = "live_8Zk2QvLm9Xt4"
}
ssh_public_key   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHCSPk0x2hQ3yq5vVxV6p8yM1Zt4Kc9Rj7Wn0Bd3Lf6 ops"
secret_rotation_days = 30
kms_key_id       = "arn:aws:kms:eu-west-1:111122223333:key/1f0a"
