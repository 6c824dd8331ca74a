#!/bin/sh
# What the service `init` of docker-compose.yml does: certificates and tokens into its volumes, where they are not there yet.
# Stopped half way, it goes on the next time: what is made appears under its name when it is complete. With `dask`, as in
# compose.dask.yml, it also makes what the nodes of the cluster show each other: an authority of their own, and one certificate for all.
set -eu
umask 077
cd /etc/sumgrad

if [ ! -e authority/made ]; then
  rm -rf authority/new
  sumgrad certs authority/new --host server --days 3650 >/dev/null
  mv authority/new authority/made
fi

put() { # FILE FOLDER: copies an issued file, unless it is there
  [ -e "$2/${1##*/}" ] || { cp "authority/$1" "$2/new" && mv "$2/new" "$2/${1##*/}"; }
}
for file in ca.pem server.pem server.key; do put "made/$file" server; done
for folder in metrics train-a train-b; do put made/ca.pem "$folder"; done

token() { # NAME FILE SCOPES NAMESPACE: makes a token, unless it is there
  [ -e "$2" ] && return
  sumgrad tokens revoke "$1" --file server/tokens.json >/dev/null 2>&1 || true # one that was made and not kept
  sumgrad tokens create "$1" --file server/tokens.json --scopes "$3" --namespace "$4" >"$2.new"
  mv "$2.new" "$2"
}
# Runs and datasets belong to a namespace: that of the clients is one, and who only reads metrics has another.
token train-a train-a/token read,compute default
token train-b train-b/token read,compute default
token metrics metrics/token read metrics
token operator authority/operator.token read,admin default

if [ "${1:-}" = dask ]; then
  if [ ! -e authority/dask ]; then
    rm -rf authority/new
    sumgrad certs authority/new --node dask --days 3650 >/dev/null
    mv authority/new authority/dask
  fi
  for file in ca.pem node-dask.pem node-dask.key; do put "dask/$file" dask; done
fi
echo "certificates and tokens are in place"
