"""Every supervisor that is measured, this toolkit first."""

from __future__ import annotations

from benchmarks.supervision.peers.base import Peer
from benchmarks.supervision.peers.circus import Circus
from benchmarks.supervision.peers.monit import Monit
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.peers.pm2 import Pm2
from benchmarks.supervision.peers.scanners import S6, Runit
from benchmarks.supervision.peers.supervisord import Supervisord

ALL: dict[str, type[Peer]] = {peer.name: peer for peer in (Ours, Runit, S6, Supervisord, Circus, Pm2, Monit)}
