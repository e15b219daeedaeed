#!/usr/bin/env bash
# Propose what changed below some paths: one commit on a branch of its own, one open pull request.
#
# Usage: pull-request.sh BRANCH TITLE PATH...    (GH_TOKEN in the environment)
# Nothing changed: nothing happens. A second run replaces what the branch held.
set -euo pipefail

branch=automatic/$1 title=$2
shift 2
git add --all -- "$@"
if git diff --cached --quiet; then
  echo "nothing changed in $*"
  exit 0
fi
git diff --cached --stat
base=$(git rev-parse --abbrev-ref HEAD)
git -c user.name='github-actions[bot]' \
  -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
  commit --quiet --message "$title"
# The checkout kept no credentials: gh lends its token to this one command.
git -c credential.helper= -c credential.helper='!gh auth git-credential' \
  push --quiet --force origin "HEAD:refs/heads/$branch"
if [ "$(gh pr list --head "$branch" --state open --json number --jq length)" = 0 ]; then
  gh pr create --base "$base" --head "$branch" --title "$title" \
    --body "Made by ${GITHUB_WORKFLOW:-a workflow}: $(git diff --stat HEAD~ | tail -n 1)"
fi
