# shellcheck shell=sh
# Login shells that were started without the image's environment, for example by `su -`.
export LANG="${LANG:-C.UTF-8}"
