#!/usr/bin/env bash
# Run a command of README.md as it stands there on a system with nothing set up.
#
#   host.sh SYSTEM USER WHAT
#
# SYSTEM is `here`, this machine, or a release of Debian (`trixie`): then a bare root file system of
# it is made and entered, which takes root and mmdebstrap. USER is `root` or `user`, who gets his
# packages by root and does the rest alone. WHAT is the command's name in README.md: `build`, `tests`.
# What is in single quotes is expanded by the shells that it is for.
# shellcheck disable=SC2016
set -euo pipefail

system=$1 user=$2 what=$3
checkout=$(cd "$(dirname "$0")/.." && pwd)
command=$(awk -v mark="<!-- $what -->" \
  '$0 == mark {found = 1; next} found && /^```/ {if (inside) exit; inside = 1; next} inside' \
  "$checkout/README.md")
packages=${command%% && python3 -m venv *}
rest=${command#"$packages && "}
[ -n "$command" ] && [ "$rest" != "$command" ] || { echo "README.md: no such command" >&2; exit 1; }
echo "+ $command"

if [ "$system" = here ]; then
  sudo env DEBIAN_FRONTEND=noninteractive bash -euo pipefail -c "$packages"
  cd "$checkout"
  [ "$user" = user ] || exec sudo bash -euo pipefail -c "$rest"
  exec bash -euo pipefail -c "$rest"
fi

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
mmdebstrap --variant=minbase --include=ca-certificates "$system" "$root"
inside='
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive HOME=/root
bash -euo pipefail -c "$2"
cd /checkout
[ "$1" = user ] || exec bash -euo pipefail -c "$3"
useradd --create-home builder
grep -q "^builder:" /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 builder
cp -R /checkout /home/builder/checkout && chown -R builder: /home/builder/checkout
exec su builder -c "cd ~/checkout && bash -euo pipefail -c \"\$1\"" -- bash "$3"
'
# A mount of its own at `/`, as machines and containers have; all goes with the namespaces.
unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
root=$1 checkout=$2 && shift 2
mount --bind "$root" "$root"
cd "$root"
mkdir -p checkout before
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount --bind "$checkout" checkout
cp -L /etc/resolv.conf etc/resolv.conf
echo "127.0.0.1 localhost $(hostname)" > etc/hosts
pivot_root . before
umount -l /before
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c "$@"
' enter "$root" "$checkout" "$inside" inside "$user" "$packages" "$rest"
