#!/usr/bin/env python3
"""A history of ten gigabytes, and a container that writes ten gigabytes without an engine, against budgets.

usage: logs.py --bin DIR [--gigabytes N] [--json FILE] [--markdown FILE]
  --bin        folder with wharf and wharf-shim
  --gigabytes  how much each of the two containers writes (default 10); the history takes a quarter more on disk
The engine runs privately: own root and run directory (below $BENCH_DIR, by default /var/tmp), in a fresh network and mount
namespace. Exit 1 when a budget of BUDGETS is missed, or when anything that must be in a log is not."""
import argparse, json, os, shutil, statistics, sys, threading, time
from peer import alone, ms

# measurement -> the most it may be
BUDGETS = {
    'logs --tail 10 of the history, ms': 50.0,
    'logs --since its end, ms': 50.0,
    'log files of a container without limits, MiB': 61.0,  # 3 of 20, a line over each, the index
}
GIB = 1 << 30
LINE = 'x' * 199  # 200 bytes with its end


class Disk:
    """The most that a directory takes while it is looked at."""
    def __init__(self, folder):
        self.folder, self.most, self.ended = folder, 0, threading.Event()
        self.thread = threading.Thread(target=self.look); self.thread.start()

    def now(self):
        total = 0
        for name in os.listdir(self.folder):
            try: total += os.stat(f'{self.folder}/{name}').st_blocks * 512
            except FileNotFoundError: pass  # rotated away meanwhile
        return total

    def look(self):
        while not self.ended.wait(0.02): self.most = max(self.most, self.now())

    def end(self):
        self.ended.set(); self.thread.join()
        return max(self.most, self.now())


class Logs:
    def __init__(self, engine, gigabytes):
        self.engine, self.bytes, self.figures, self.wrong = engine, gigabytes * GIB, {}, []

    def put(self, what, value):
        self.figures[what] = value
        print(f'  {what:50} {value:10.2f}', flush=True)

    def writes(self, name, *flags):
        script = f'yes {LINE} | head -c {self.bytes // 200 * 200}; echo the last line'
        self.engine.do('run', '-d', '--name', name, '--network', 'none', *flags, 'busybox', 'sh', '-c', script)
        seen = json.loads(self.engine.do('inspect', name))[0]
        return seen['State']['Pid'], os.path.dirname(seen['LogPath'])

    def history(self):
        """One file without limits; its tail and its newest moment are asked for."""
        free = shutil.disk_usage(self.engine.root).free
        if free < self.bytes * 1.5: raise RuntimeError(f'{free >> 30} GiB are free, half as much again as is written is wanted')
        begin = time.perf_counter()
        _, folder = self.writes('history', '--log-opt', 'max-size=-1')
        self.engine.do('wait', 'history')
        took = time.perf_counter() - begin
        self.put('written without limits, MiB/s', self.bytes / (1 << 20) / took)
        self.put('log file, GiB', max(os.path.getsize(f'{folder}/{f}') for f in os.listdir(folder)) / GIB)
        self.tell('logs --tail 10 of the history, ms', lambda: self.logs('history', '--tail', '10'), 10)
        end = json.loads(self.engine.do('inspect', 'history'))[0]['State']['FinishedAt']
        self.tell('logs --since its end, ms', lambda: self.logs('history', '--since', end), None)
        self.put('removed, ms', ms(lambda: self.engine.do('rm', 'history')))

    def logs(self, *args):
        return self.engine.do('logs', *args).splitlines()

    def tell(self, what, ask, count):
        lines = ask()
        if count and (len(lines) != count or lines[-1] != 'the last line'): self.wrong.append(f'{what}: {len(lines)} lines, at last {lines[-1:]}')
        self.put(what, statistics.median(ms(ask) for _ in range(15)))

    def flood(self):
        """Nothing limits it but what is usual, and there is no engine most of the time."""
        begin = time.perf_counter()
        pid, folder = self.writes('flood')
        disk = Disk(folder)
        self.engine.process.kill(); self.engine.process.wait()
        while os.path.exists(f'/proc/{pid}'): time.sleep(0.02)
        took = time.perf_counter() - begin
        most = disk.end()
        self.engine.begin()
        code = self.engine.do('wait', 'flood').strip()
        last = self.logs('flood', '--tail', '1')
        if (code, last) != ('0', ['the last line']): self.wrong.append(f'without an engine: exit code {code}, at last {last}')
        self.put('written without an engine, MiB/s', self.bytes / (1 << 20) / took)
        self.put('log files of a container without limits, MiB', most / (1 << 20))
        self.engine.do('rm', 'flood')


def measure(engine, a):
    logs = Logs(engine, a.gigabytes)
    logs.flood(); logs.history()
    return logs.figures, BUDGETS, logs.wrong


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--gigabytes', type=int, default=10)
    return alone(ap, measure)


if __name__ == '__main__': sys.exit(main())
