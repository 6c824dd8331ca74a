#!/bin/sh
# What the service `init` of docker-compose.yml does: certificates and tokens into its volumes, where they are not there yet.
# Stopped half way, it goes on the next time: what is made appears under its name when it is complete.
set -eu
umask 077
cd "${1:-/etc/sumgrad}"

if [ ! -e authority/made ]; then
  rm -rf authority/new
  sumgrad certs authority/new --host server --days 3650 >/dev/null
  mv authority/new authority/made
fi

put() { # FILE FOLDER: copies an issued file, unless it is there
  [ -e "$2/$1" ] || { cp "authority/made/$1" "$2/$1.new" && mv "$2/$1.new" "$2/$1"; }
}
for file in ca.pem server.pem server.key; do put "$file" server; done
put ca.pem client

token() { # NAME FILE SCOPES: makes a token, unless it is there
  [ -e "$2" ] && return
  sumgrad tokens revoke "$1" --file server/tokens.json >/dev/null 2>&1 || true # one that was made and not kept
  sumgrad tokens create "$1" --file server/tokens.json --scopes "$3" >"$2.new"
  mv "$2.new" "$2"
}
token train client/token read,compute
token operator authority/operator.token read,admin
echo "certificates and tokens are in place"
