#!/usr/bin/env python3
"""The comparison with the peers installed on the machine, in one run, as a table of ratios.

usage: bench.py --bin DIR [-k PATTERN] [--rounds N] [--json FILE] [--markdown FILE]
  --bin       folder with wharf, wharf-shim and wharf-runtime
  -k          only measurements whose name matches this regular expression
  --rounds    repetitions of each quick measurement (default 15); the median counts
The peers take turns, one call each in every round, so that what else the machine does at a time meets all of them.
Each engine runs privately: own root and run directory, all in one fresh network namespace, so that
neither the host's firewall nor its bridges change. What is not installed is listed, not guessed.
Exit 1 when a bar of BARS is missed."""
import argparse, concurrent.futures, contextlib, gzip, hashlib, io, json, os, re, shutil, socket
import statistics, subprocess, sys, tarfile, tempfile, time, urllib.request
from peer import busybox_tar, ms, must, pids_of, pss_kb, sh, start_docker, start_podman, Wharf

# measurement -> (peer, our time or size may be at most this fraction of the peer's)
BARS = {
    'run --rm, network none': ('docker', 1 / 15),
    'run --rm, bridge': ('docker', 1 / 15),
    'exec true': ('docker', 1 / 10),
    'pull 6 layers, 400 MB': ('docker', 1.0),
}
KEEPER_BAR_KB = 512
PULLS = 3  # images to pull, equal but for a mark: nothing is removed in between, which would slow what follows
QUIET_S = 7  # an engine is idle after so long
PACKAGES = [['gcc-12'], ['libllvm14'], ['git', 'perl-modules-5.36', 'libperl5.36'], ['cpp-12', 'libstdc++-12-dev'],
            ['libpython3.11-stdlib', 'libicu72'], ['g++-12', 'python3-docutils']]


def in_turns(calls, rounds, failed, warm=True):
    """The median time in ms of each call, by name. Who fails is told to `failed` and drops out."""
    times = {name: [] for name in calls}
    for n in range(rounds + warm):
        for name, call in list(calls.items()):
            try:
                took = call()
                if n >= warm: times[name].append(took)
            except (RuntimeError, OSError) as error:
                calls.pop(name); times.pop(name); failed(name, error)
    return {name: statistics.median(t) for name, t in times.items() if t}


def mark(n):
    """What tells the layers of round n from the others: a first, empty member of the tar."""
    return tarfile.TarInfo(f'round-{n}').tobuf()


def deb_layer(names, scratch):
    """One layer, a gzipped tar of the unpacked packages: (blob, its diff id in each round, unpacked bytes)."""
    d = tempfile.mkdtemp(dir=scratch)
    for n in names:
        sh('apt-get', 'download', '-q', n, cwd=d)
    root = f'{d}/root'; os.makedirs(root)
    for deb in [f for f in os.listdir(d) if f.endswith('.deb')]:
        must('dpkg-deb', '-x', f'{d}/{deb}', root)
    raw = subprocess.run(['tar', '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '-C', root, '-c', '.'], capture_output=True, check=True).stdout
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode='wb', compresslevel=6, mtime=0) as g:
        g.write(raw)
    return out.getvalue(), [digest(mark(n) + raw) for n in range(PULLS)], len(raw)


def digest(data):
    return 'sha256:' + hashlib.sha256(data).hexdigest()


def push_blob(base, repo, data):
    r = urllib.request.urlopen(urllib.request.Request(f'{base}/v2/{repo}/blobs/uploads/', method='POST', data=b''))
    where = r.headers['Location']
    where += ('&' if '?' in where else '?') + 'digest=' + digest(data)
    urllib.request.urlopen(urllib.request.Request(where, method='PUT', data=data, headers={'Content-Type': 'application/octet-stream'}))


def push_image(base, repo, layers):
    config = json.dumps({'architecture': {'x86_64': 'amd64', 'aarch64': 'arm64'}[os.uname().machine], 'os': 'linux', 'config': {'Cmd': ['true']},
                         'rootfs': {'type': 'layers', 'diff_ids': [l[1] for l in layers]}}).encode()
    for blob in [config] + [l[0] for l in layers]:
        push_blob(base, repo, blob)
    kind = 'application/vnd.docker.distribution.manifest.v2+json'
    manifest = json.dumps({'schemaVersion': 2, 'mediaType': kind,
        'config': {'mediaType': 'application/vnd.docker.container.image.v1+json', 'size': len(config), 'digest': digest(config)},
        'layers': [{'mediaType': 'application/vnd.docker.image.rootfs.diff.tar.gzip', 'size': len(l[0]), 'digest': digest(l[0])} for l in layers]}).encode()
    urllib.request.urlopen(urllib.request.Request(f'{base}/v2/{repo}/manifests/1', method='PUT', data=manifest, headers={'Content-Type': kind}))


def start_registry(base, log):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    open(f'{base}/registry.yml', 'w').write(f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {base}/registry}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n')
    p = subprocess.Popen(['docker-registry', 'serve', f'{base}/registry.yml'], stdout=log, stderr=log)
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(('127.0.0.1', port)).close(); break
        time.sleep(0.02)
    return p, f'127.0.0.1:{port}'


class Bench:
    def __init__(self, a, engines, base):
        self.a, self.engines, self.base, self.table, self.notes = a, engines, base, {}, []

    def put(self, what, who, value):
        self.table.setdefault(what, {})[who] = value
        print(f'  {what:36} {who:8} {value:10.1f}', flush=True)

    def wanted(self, what):
        return re.search(self.a.k, what)

    def failed(self, what):
        return lambda who, error: self.notes.append(f'{what}: {who} is not measured: {str(error).strip()[-300:]}')

    def each(self, what, f, rounds=1, warm=False):
        """Measures `f(engine)`, in ms, with every engine in turns."""
        if not self.wanted(what):
            return
        calls = {e.name: (lambda e=e: f(e)) for e in self.engines}
        for who, value in in_turns(calls, rounds, self.failed(what), warm).items():
            self.put(what, who, value)

    def quick(self):
        n = self.a.rounds
        run = lambda *flags: lambda e: ms(lambda: e.do('run', '--rm', *flags, 'busybox', 'true'))
        self.each('run --rm, network none', run('--network', 'none'), n, True)
        self.each('run --rm, bridge', run(), n, True)
        if not self.wanted('exec true'):
            return
        started = [e for e in self.engines if self.tried('exec true', e, 'run', '-d', '--name', 'bench-x', 'busybox', 'sleep', '600')]
        calls = {e.name: (lambda e=e: ms(lambda: e.do('exec', 'bench-x', 'true'))) for e in started}
        for who, value in in_turns(calls, n, self.failed('exec true')).items():
            self.put('exec true', who, value)
        for e in started: self.tried('exec true', e, 'rm', '-f', 'bench-x')

    def tried(self, what, e, *args):
        try:
            e.do(*args); return True
        except RuntimeError as error:
            self.failed(what)(e.name, error); return False

    def many(self):
        names = [f'm{i}' for i in range(50)]
        start = lambda e, n: e.do('run', '-d', '--name', n, 'busybox', 'sleep', '600')
        def sequence(e):
            for n in names: start(e, n)
        def parallel(e):
            with concurrent.futures.ThreadPoolExecutor(10) as ex: list(ex.map(lambda n: start(e, n), names))
        def weighed(e):
            try:
                took = ms(lambda: sequence(e))
                pids = e.keeper()
                if pids: self.put('keeper PSS each, kB', e.name, sum(map(pss_kb, pids)) / len(pids))
                if e.process: self.put('engine PSS with 50 containers, kB', e.name, self.weight(e))
                e.do('ps'); self.put('ps with 50 containers', e.name, statistics.median(ms(lambda: e.do('ps')) for _ in range(5)))
                return took
            finally: e.do('rm', '-f', *names)
        def cleaned(e):
            try: return ms(lambda: parallel(e))
            finally: e.do('rm', '-f', *names)
        self.each('50 containers in sequence', weighed)
        self.each('50 containers, 10 at a time', cleaned)

    def weight(self, e):
        """The engine's own memory; Docker's engine is two processes."""
        extra = pids_of('containerd --config', f'{self.base}/docker-run') if e.name == 'docker' else []
        return pss_kb(e.process.pid) + sum(map(pss_kb, extra))

    def memory(self, what):
        if self.wanted(what):
            time.sleep(QUIET_S)
            for e in self.engines:
                if e.process: self.put(what, e.name, self.weight(e))

    def pull(self, log):
        what = 'pull 6 layers, 400 MB'
        if not self.wanted(what):
            return
        registry, address = start_registry(self.base, log)
        try:
            layers = self.layers
            for n in range(PULLS):
                marked = [(gzip.compress(mark(n), mtime=0) + blob, diff_ids[n], size) for blob, diff_ids, size in layers]
                push_image(f'http://{address}', f'bench/big{n}', marked)
            size = sum(l[2] for l in layers) / 1e6
            self.notes.append(f'pulled image: {len(layers)} layers, {size:.0f} MB, {sum(len(l[0]) for l in layers) / 1e6:.0f} MB gzip')
            rounds = {e.name: iter(range(PULLS)) for e in self.engines}
            def once(e):
                os.sync()
                return ms(lambda: e.do('pull', '-q', f'{address}/bench/big{next(rounds[e.name])}:1'))
            self.each(what, once, PULLS)
        finally:
            registry.terminate(); registry.wait()

    def runtimes(self):
        what = 'OCI runtime alone, run true'
        if not self.wanted(what):
            return
        bundle = f'{self.base}/bundle'; os.makedirs(f'{bundle}/rootfs')
        must('tar', '-C', f'{bundle}/rootfs', '-xf', f'{self.base}/busybox.tar')
        must(f'{self.a.bin}/wharf-runtime', 'spec', '--bundle', bundle)
        c = json.load(open(f'{bundle}/config.json')); c['process']['args'] = ['/bin/true']; c['process']['terminal'] = False
        c['process'].pop('rlimits', None)
        c['ociVersion'] = '1.0.2'  # the newest that Debian's crun knows
        json.dump(c, open(f'{bundle}/config.json', 'w'))
        programs = {'wharf': f'{self.a.bin}/wharf-runtime', 'crun': 'crun', 'runc': 'runc'}
        calls = {who: (lambda who=who, p=p: ms(lambda: must(p, '--root', f'{self.base}/rt-{who}', 'run', '--bundle', bundle, f'b{os.getpid()}')))
                 for who, p in programs.items() if shutil.which(p)}
        for who, value in in_turns(calls, self.a.rounds, self.failed(what)).items():
            self.put(what, who, value)

    def report(self):
        columns = [n for n in ('wharf', 'docker', 'podman', 'crun', 'runc') if any(n in r for r in self.table.values())]
        out = ['| measurement | ' + ' | '.join(columns) + ' | ' + ' | '.join(f'wharf / {c}' for c in columns[1:]) + ' |', '|---|' + '---|' * (2 * len(columns) - 1)]
        missed = []
        for what, row in self.table.items():
            unit = '' if 'kB' in what else ' ms'
            cells = [f'{row[c]:.1f}{unit}' if c in row else '-' for c in columns]
            cells += [f"{row['wharf'] / row[c]:.2f}" if 'wharf' in row and row.get(c) else '-' for c in columns[1:]]
            out.append(f'| {what} | ' + ' | '.join(cells) + ' |')
        for what, (peer, most) in BARS.items():
            row = self.table.get(what, {})
            if peer in row and not row.get('wharf', float('inf')) <= most * row[peer]:
                missed.append(f"{what}: {row.get('wharf', float('nan')):.1f} is over {most:.2f} of {peer}'s {row[peer]:.1f}")
        keeper = self.table.get('keeper PSS each, kB', {}).get('wharf', 0)
        if keeper > KEEPER_BAR_KB:
            missed.append(f'keeper PSS {keeper:.0f} kB is over {KEEPER_BAR_KB} kB')
        return out, missed


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--bin', required=True); ap.add_argument('-k', default=''); ap.add_argument('--rounds', type=int, default=15)
    ap.add_argument('--json'); ap.add_argument('--markdown'); ap.add_argument('--inside', action='store_true', help=argparse.SUPPRESS)
    a = ap.parse_args(); a.bin = os.path.abspath(a.bin)
    for v in ('DOCKER_HOST', 'WHARF_HOST'): os.environ.pop(v, None)
    base = tempfile.mkdtemp(prefix='wharf-bench-', dir=os.environ.get('BENCH_DIR', '/var/tmp')) if not a.inside else os.environ['BENCH_BASE']
    if not a.inside:
        layers = []
        if re.search(a.k, 'pull 6 layers, 400 MB'):
            print('making the layers from Debian packages', flush=True)
            layers = [deb_layer(p, base) for p in PACKAGES]
            for i, l in enumerate(layers):
                open(f'{base}/layer{i}', 'wb').write(l[0])
            json.dump([[l[1], l[2]] for l in layers], open(f'{base}/layers.json', 'w'))
        try:
            code = subprocess.call(['unshare', '--net', '--mount', sys.executable, __file__, *sys.argv[1:], '--inside'], env=dict(os.environ, BENCH_BASE=base))
        finally:
            subprocess.call(['rm', '-rf', '--one-file-system', base])
        return code
    must('ip', 'link', 'set', 'lo', 'up')
    if os.path.exists('/sys/fs/cgroup/memory') and not os.path.exists('/sys/fs/cgroup/hugetlb/cgroup.procs'):
        os.makedirs('/sys/fs/cgroup/hugetlb', exist_ok=True); sh('mount', '-t', 'cgroup', '-o', 'hugetlb', 'cgroup', '/sys/fs/cgroup/hugetlb')  # crun insists on it
    log = open(f'{base}/log', 'w'); engines = []
    try:
        busybox_tar(f'{base}/busybox.tar')
        engines.append(Wharf(a.bin, base, log))
        for peer in (lambda: start_docker(base, log), lambda: start_podman(base)):
            try:
                if e := peer(): engines.append(e)
            except RuntimeError as error:
                print('not measured:', error)
        for e in engines: e.do('import', f'{base}/busybox.tar', 'busybox:latest')
        b = Bench(a, engines, base)
        b.memory('engine PSS, kB')
        b.quick(); b.runtimes(); b.many()
        if os.path.exists(f'{base}/layers.json'):
            b.layers = [(open(f'{base}/layer{i}', 'rb').read(), d, n) for i, (d, n) in enumerate(json.load(open(f'{base}/layers.json')))]
            b.pull(log)
            b.memory('engine PSS after the pulls, kB')
        table, missed = b.report()
        print('\n' + '\n'.join(table) + '\n' + '\n'.join(b.notes))
        if a.markdown: open(a.markdown, 'w').write('\n'.join(table) + '\n')
        if a.json: json.dump(b.table, open(a.json, 'w'), indent=1)
        for m in missed: print('MISSED:', m)
        return 1 if missed else 0
    finally:
        for e in engines: e.stop()
        for e in engines: e.reset()
        subprocess.call('mount | awk \'$3 ~ "^%s" {print $3}\' | sort -r | xargs -r umount -l 2>/dev/null' % base, shell=True)


sys.exit(main())
