#!/usr/bin/env bash
# Log in to the registry of $REPOSITORY as $REGISTRY_USER with $REGISTRY_PASSWORD, for this job alone.
# Without a password: no login, as nobody.
#
# skopeo writes the same file as `docker login`, needs no daemon, and is in Debian; GitHub's own
# machines and ours have Docker as well, and may lack skopeo.
set -euo pipefail

: "${REPOSITORY:?}" "${REGISTRY_USER:?}" "${RUNNER_TEMP:?}" "${GITHUB_ENV:?}"
if [ -z "${REGISTRY_PASSWORD:-}" ]; then
  echo "no login: what the registry shows to nobody will be missing"
  exit 0
fi
export DOCKER_CONFIG="$RUNNER_TEMP/registry-login"
mkdir -p "$DOCKER_CONFIG" && chmod 700 "$DOCKER_CONFIG"
registry=${REPOSITORY%%/*}
if command -v skopeo > /dev/null; then
  login=(skopeo login --authfile "$DOCKER_CONFIG/config.json")
else
  login=(docker login)
fi
printf '%s' "$REGISTRY_PASSWORD" | "${login[@]}" --username "$REGISTRY_USER" --password-stdin "$registry"
echo "DOCKER_CONFIG=$DOCKER_CONFIG" >> "$GITHUB_ENV"
