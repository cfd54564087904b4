# shellcheck shell=sh
# Login shells: /etc/profile has just set PATH anew, and a door that passes no environment leaves LANG unset.
export LANG="${LANG:-C.UTF-8}"
if [ -d "$HOME/.local/bin" ]; then PATH="$HOME/.local/bin:$PATH"; fi
