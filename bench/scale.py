#!/usr/bin/env python3
"""A thousand containers on one engine, and ten thousand starts and stops, against budgets.

usage: scale.py --bin DIR [--count N] [--cycles N] [--json FILE] [--markdown FILE]
  --bin     folder with wharf and wharf-shim
  --count   containers on the bridge network (default 1000; a Linux bridge takes 1023 ports)
  --cycles  starts and stops that must leave nothing behind (default 10000; 0 leaves them out)
The engine runs privately: own root and run directory, in a fresh network and mount namespace. Requests go to its socket,
several at a time, without a command line between. Exit 1 when a budget of BUDGETS is missed."""
import argparse, concurrent.futures, http.client, json, os, socket, statistics, sys, time
from peer import alone, ms, must, pss_kb

# measurement -> the most it may be
BUDGETS = {
    'started, s': 20.0,
    'keeper PSS each, kB': 512.0,
    'engine PSS then, MB': 100.0,
    'ps -a, ms': 20.0,
    'start of one more, of the first ones': 1.3,
    'stopped and removed, s': 15.0,
    'engine PSS idle, MB': 20.0,
}
CALLERS = 8  # requests at a time
SOME = 20    # starts that are measured one by one; a bridge has 1023 ports
ROUNDS = 3   # of them
SETTLE_S = 2 # what was removed is gone in the kernel too
IDLE_S = 12  # memory is given back after five seconds without work, idle threads end after ten
# One process that ends on SIGTERM; its standard input stays open.
PROGRAM = ['sh', '-c', 'trap "exit 0" TERM; read x']


class Unix(http.client.HTTPConnection):
    """A connection to an engine's socket."""
    def __init__(self, path):
        super().__init__('localhost')
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Api:
    """One caller: a connection that is kept."""
    def __init__(self, path):
        self.connection = Unix(path)

    def call(self, method, path, body=None):
        headers = {'Content-Type': 'application/json'} if body is not None else {}
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f'{method} {path}: {answer.status} {text[:500]!r}')
        return text

    def start(self, name, network='bridge'):
        config = {'Image': 'busybox', 'Cmd': PROGRAM, 'OpenStdin': True, 'HostConfig': {'NetworkMode': network}}
        self.call('POST', f'/v1.44/containers/create?name={name}', config)
        self.call('POST', f'/v1.44/containers/{name}/start')

    def stop(self, name, patience_s=10):
        self.call('POST', f'/v1.44/containers/{name}/stop?t={patience_s}')

    def remove(self, name):
        self.call('DELETE', f'/v1.44/containers/{name}')


class Callers:
    """Several callers at work on one list."""
    def __init__(self, path):
        self.apis = [Api(path) for _ in range(CALLERS)]

    def each(self, names, do):
        def work(n):
            for name in names[n::CALLERS]: do(self.apis[n], name)
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool: list(pool.map(work, range(CALLERS)))


class Scale:
    def __init__(self, engine, path):
        self.engine, self.api, self.callers, self.figures = engine, Api(path), Callers(path), {}

    def put(self, what, value):
        self.figures[what] = value
        print(f'  {what:40} {value:10.2f}', flush=True)

    def some(self, stem, rounds=ROUNDS):
        """How long each start takes, create included, in ms: rounds of a few that follow each other. They are removed
        together: for milliseconds after its removal the kernel takes a container apart, beside whatever comes next."""
        took = []
        for r in range(rounds):
            names = [f'{stem}{r}-{i}' for i in range(SOME)]
            took += [ms(lambda: self.api.start(name)) for name in names]
            for name in names: self.end(name)
            time.sleep(SETTLE_S)
        return took

    def behind(self, stem):
        """The median of starts each of which comes right after the removal of the one before."""
        took = []
        for i in range(SOME):
            took.append(ms(lambda: self.api.start(f'{stem}{i}')))
            self.end(f'{stem}{i}')
        time.sleep(SETTLE_S)
        return statistics.median(took)

    def end(self, name):
        self.api.stop(name, 0); self.api.remove(name)  # it may not have set its trap yet

    def thousand(self, count):
        self.some('warm')
        first, first_behind = self.some('first'), self.behind('before')
        names = [f's{i}' for i in range(count)]
        self.put('started, s', ms(lambda: self.callers.each(names, Api.start)) / 1000)
        running = json.loads(self.api.call('GET', '/v1.44/containers/json'))
        if len(running) != count: raise RuntimeError(f'{len(running)} of {count} run')
        time.sleep(SETTLE_S)
        more, more_behind = self.some('more', 2 * ROUNDS), self.behind('after')
        self.put('first ones right behind a removal, ms', first_behind)
        self.put('one more right behind a removal, ms', more_behind)
        self.put('ps -a, ms', statistics.median(ms(lambda: self.api.call('GET', '/v1.44/containers/json?all=1')) for _ in range(15)))
        keepers = self.engine.keeper()
        self.put('keeper PSS each, kB', sum(map(pss_kb, keepers)) / len(keepers))
        self.put('engine PSS then, MB', pss_kb(self.engine.process.pid) / 1024)
        self.put('new engine answers after kill -9, s', self.successor(count))
        self.put('stopped and removed, s', ms(lambda: (self.callers.each(names, Api.stop), self.callers.each(names, Api.remove))) / 1000)
        time.sleep(IDLE_S)
        self.put('engine PSS idle, MB', pss_kb(self.engine.process.pid) / 1024)
        # A machine may be faster in one minute than in the next: the first ones are of both sides of the others.
        first, more = statistics.median(first + self.some('last')), statistics.median(more)
        self.put('start of the first ones, ms', first)
        self.put('start of one more, ms', more)
        self.put('start of one more, of the first ones', more / first)

    def successor(self, count):
        """How long a new engine takes until it lists all as running, after the old one was killed."""
        self.engine.process.kill(); self.engine.process.wait()
        begin = time.perf_counter()
        self.engine.begin()
        while True:
            listed = json.loads(Api(self.engine.socket).call('GET', '/v1.44/containers/json'))
            if sum(c['Status'].startswith('Up') for c in listed) == count: break
        took = time.perf_counter() - begin
        self.api, self.callers = Api(self.engine.socket), Callers(self.engine.socket)
        return took

    def cycles(self, count):
        """Starts and stops; what there is of each kind before and after."""
        def round(api, name):
            api.start(name); api.stop(name, 0); api.remove(name)
        self.callers.each([f'warm{i}' for i in range(200)], round)
        time.sleep(IDLE_S)
        before = self.held()
        took = ms(lambda: self.callers.each([f'c{i}' for i in range(count)], round)) / 1000
        time.sleep(IDLE_S)
        after = self.held()
        self.put(f'{count} starts and stops, s', took)
        for what in before:
            self.put(f'{what}, before', before[what]); self.put(f'{what}, after', after[what])
        grown = [what for what in before if what != 'engine PSS, kB' and after[what] > before[what]]
        # An allocator settles; a leak of one word in each cycle would be 80 kB, one of a page 40 MB.
        if after['engine PSS, kB'] > before['engine PSS, kB'] + 4096: grown.append('engine PSS, kB')
        return [f'{what}: {before[what]} before {count} starts and stops, {after[what]} after' for what in grown]

    def held(self):
        """What the engine and the kernel hold for it."""
        pid, name = self.engine.process.pid, self.engine.instance
        files = lambda *where: sum(len(d) + len(f) for w in where for _, d, f in os.walk(w))
        return {
            'descriptors': len(os.listdir(f'/proc/{pid}/fd')),
            'threads': len(os.listdir(f'/proc/{pid}/task')),
            'mounts': len(open('/proc/self/mounts').readlines()),
            'links': len(must('ip', '-o', 'link').splitlines()),
            'rules': len(must('nft', 'list', 'ruleset').splitlines()),
            'cgroups': sum(d == name or f'/{name}/' in f'{p}/' for p, dirs, _ in os.walk('/sys/fs/cgroup') for d in dirs),
            'files in run': files(self.engine.run), 'files in containers': files(f'{self.engine.root}/containers'),
            'engine PSS, kB': pss_kb(pid),
        }


def measure(engine, a):
    scale = Scale(engine, engine.socket)
    scale.thousand(a.count)
    leaks = scale.cycles(a.cycles) if a.cycles else []
    return scale.figures, BUDGETS, leaks


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--count', type=int, default=1000); ap.add_argument('--cycles', type=int, default=10000)
    return alone(ap, measure)


if __name__ == '__main__': sys.exit(main())
