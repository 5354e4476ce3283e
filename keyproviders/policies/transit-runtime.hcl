# What a serving process of Strongroom may do with the key "@key@" at "@mount@/". Nothing here makes or changes a key:
# "create" on encrypt would let a mistyped name become a key.
path "@mount@/encrypt/@key@" {
  capabilities = ["update"]
}
path "@mount@/decrypt/@key@" {
  capabilities = ["update"]
}
path "@mount@/rewrap/@key@" {
  capabilities = ["update"]
}
path "@mount@/keys/@key@" {
  capabilities = ["read"]
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
