# shellcheck shell=sh
# Login shells: /etc/profile has just reset PATH, and LANG is unset if the client passed no environment.
export LANG="${LANG:-C.UTF-8}"
if [ -d "$HOME/.local/bin" ]; then PATH="$HOME/.local/bin:$PATH"; fi
