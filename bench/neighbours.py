#!/usr/bin/env python3
"""What a container feels of neighbours that take all they can, and what the engine does.

usage: neighbours.py --bin DIR [--requests N] [--json FILE] [--markdown FILE]
A container serves HTTP on a bridge network; its median latency is measured alone, and then beside a fork bomb, a memory
hog, a flood of log lines and a loop that writes to the disk, all with the limits that containers get when they ask for
none, all at once, and started again whenever they end: what they do changes from second to second, so the requests take
some nine seconds. Exit 1 when a budget of BUDGETS is missed."""
import argparse, os, socket, statistics, sys, time
from peer import alone, ms

# measurement -> the most it may be
BUDGETS = {
    'latency beside them, of that alone': 2.0,
    'ps beside them, ms': 200.0,
    'log on disk, MB': 64.0,
}
NEIGHBOURS = {
    'forks': 'bomb() { bomb | bomb & }; bomb; sleep 1000',
    'memory': 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done',
    'log': 'while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done',
    'disk': 'while :; do dd if=/dev/zero of=/file bs=1M count=256 conv=fsync 2>/dev/null; done',
}
SETTLE_S = 10


class Neighbours:
    def __init__(self, engine, requests):
        self.engine, self.requests, self.figures = engine, requests, {}

    def put(self, what, value):
        self.figures[what] = value
        print(f'  {what:40} {value:10.2f}', flush=True)

    def ask(self):
        with socket.create_connection((self.address, 8080), timeout=30) as s:
            s.sendall(b'GET /index.html HTTP/1.0\r\n\r\n')
            answer = b''
            while part := s.recv(4096): answer += part
        if b'200 OK' not in answer: raise RuntimeError(f'no answer: {answer!r}')

    def latency(self):
        def once():
            time.sleep(0.005)  # one request after the other, as from a user
            return ms(self.ask)
        return statistics.median(once() for _ in range(self.requests))

    def run(self):
        serve = 'mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www'
        self.engine.do('run', '-d', '--name', 'server', 'busybox', 'sh', '-c', serve)
        self.address = self.engine.do('inspect', '-f', '{{.NetworkSettings.IPAddress}}', 'server').strip()
        for _ in range(100):
            try: self.ask(); break
            except OSError: time.sleep(0.05)
        self.latency()
        alone = self.latency()
        self.put('latency alone, ms', alone)
        for name, script in NEIGHBOURS.items():
            self.engine.do('run', '-d', '--restart', 'always', '--name', f'n-{name}', 'busybox', 'sh', '-c', script)
        time.sleep(SETTLE_S)
        beside = self.latency()
        self.put('latency beside them, ms', beside)
        self.put('latency beside them, of that alone', beside / alone)
        self.put('ps beside them, ms', max(ms(lambda: self.engine.do('ps')) for _ in range(20)))
        identity = self.engine.do('inspect', '-f', '{{.Id}}', 'n-log').strip()
        logs = f'{self.engine.root}/containers/{identity}/logs'
        self.put('log on disk, MB', sum(os.path.getsize(f'{logs}/{f}') for f in os.listdir(logs)) / 2**20)
        self.put('all removed, ms', ms(lambda: self.engine.do('rm', '-f', 'server', *(f'n-{n}' for n in NEIGHBOURS))))


def measure(engine, a):
    neighbours = Neighbours(engine, a.requests)
    neighbours.run()
    return neighbours.figures, BUDGETS, []


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--requests', type=int, default=1500)
    return alone(ap, measure)


if __name__ == '__main__': sys.exit(main())
