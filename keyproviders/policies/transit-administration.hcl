# What `strongroom worker --admin` may do with the key "@key@" at "@mount@/": make it, rotate it, raise its minimum
# versions, remove versions. It cannot wrap or unwrap, export or delete, nor make a key that can be exported.
path "@mount@/keys/@key@" {
  capabilities = ["create", "read", "update"]
  allowed_parameters = {
    "type" = ["aes256-gcm96"]
  }
}
path "@mount@/keys/@key@/rotate" {
  capabilities = ["update"]
}
path "@mount@/keys/@key@/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "@mount@/keys/@key@/trim" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_available_version" = []
  }
}

# Its own token: how long it lasts, more time, an end.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
