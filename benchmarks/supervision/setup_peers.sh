#!/bin/sh
# Installs what the monitor, and commands on many hosts, are measured against (Debian or Ubuntu; root, PyPI, npm).
# Optional: a peer that is not installed is left out and named. ansible comes with the project's `test` extra. Nothing lands in the checkout: what pip and npm fetch goes to
# $BENCHMARKS_HOME (default ~/.cache/settlepaisa-benchmarks).
set -eu
home=${BENCHMARKS_HOME:-$HOME/.cache/settlepaisa-benchmarks}
mkdir -p "$home"

python_peer() { # its name, its requirement
    python3 -m venv "$home/$1"
    "$home/$1/bin/pip" install -q --disable-pip-version-check "$2"
}
python_peer supervisord supervisor==4.3.0
python_peer circus circus==0.19.0
python_peer pyinfra pyinfra==3.10.0
npm install -g --silent --no-fund --no-audit --prefix "$home/pm2" pm2@7.0.4

# The packages must start nothing here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends monit runit s6 gcc libc6-dev openssh-server openssh-client curl
