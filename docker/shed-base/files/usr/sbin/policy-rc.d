#!/bin/sh
# No service manager runs in a shed: packages that bring a service must not try to start it.
exit 101
