#!/usr/bin/env python3
"""The OCI runtime alone, beside crun, runc and a floor of the same system calls in C.

usage: runtime.py --bin DIR --profile FILE [--rounds N] [--json FILE] [--markdown FILE]
  --bin       folder with wharf-runtime
  --profile   linux.seccomp with Docker's default profile (cargo run -p wharf-runtime --example default_profile)
  --rounds    repetitions of each measurement (default 61) after two to warm up; the median counts

Everybody takes turns, in a new order each round, so that what else the machine does meets all of them; how much that
was is printed. All run in a mount namespace of the bench, with the states on a tmpfs as /run is, and with the hugetlb
hierarchy that crun insists on. What is not installed is listed, not guessed. Exit 1 when a budget of BUDGETS is missed.
Ratios hold on a busy machine too; a time in ms does not: where the floor takes NOISY times its best in the median, those
budgets are judged by processor time (runtime, init and program together), and the output says so."""
import argparse, json, os, random, re, shutil, statistics, subprocess, sys, tempfile, time

# what, how it is made of the measured medians, and at most how much; what ends in ' ms' is a time
BUDGETS = [
    ('run true, of crun\'s time', lambda m: m['run true']['wharf'] / m['run true']['crun'], 0.8),
    ('run true, of runc\'s time', lambda m: m['run true']['wharf'] / m['run true']['runc'], 0.3),
    ('run true, of the floor\'s time', lambda m: m['run true']['wharf'] / m['run true']['floor'], 1.5),
    ('seccomp\'s default profile, more ms', lambda m: m['run true, seccomp']['wharf'] - m['run true']['wharf'], 1.0),
    ('exec true, ms', lambda m: m['exec true']['wharf'], 3.0),
    ('memory of create, kB', lambda m: max(m['VmHWM of create, kB']['wharf'], m['VmHWM of its init, kB']['wharf']), 4096),
]
ENVIRONMENT = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'}
WARM = 2
NOISY = 1.5


def must(*args, **kw):
    r = subprocess.run(args, capture_output=True, text=True, **kw)
    if r.returncode:
        raise RuntimeError(f"{' '.join(map(str, args))} exited {r.returncode}: {r.stderr[-2000:]}")
    return r.stdout


def timed(args, environment=ENVIRONMENT, stderr=None):
    """Starts a program without a copy of this interpreter and waits for it: milliseconds, those of processors too."""
    null = os.open('/dev/null', os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
    if stderr is not None: actions.append((os.POSIX_SPAWN_DUP2, stderr, 2))
    begin = time.perf_counter()
    pid = os.posix_spawn(args[0], args, environment, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    took = (time.perf_counter() - begin) * 1000
    os.close(null)
    if status:
        raise RuntimeError(f"{' '.join(args)} ended with status {status:#x}")
    return took, (usage.ru_utime + usage.ru_stime) * 1000


class Bench:
    def __init__(self, a, base):
        self.a, self.base, self.notes, self.floor = a, base, [], []
        self.measured, self.processor, self.spread = {}, {}, {}
        self.programs = {'wharf': f'{a.bin}/wharf-runtime'}
        for peer in ('crun', 'runc'):
            path = shutil.which(peer, path=ENVIRONMENT['PATH'])
            if path: self.programs[peer] = path
            else: self.notes.append(f'{peer} is not installed: not measured, its budget not judged')

    def runtime(self, who, *args):
        return [self.programs[who], '--root', f'{self.base}/state/{who}', *args]

    def in_turns(self, calls):
        """Medians in ms of calls by (what, who); which fails is noted and drops out."""
        times = {key: [] for key in calls}
        for n in range(self.a.rounds + WARM):
            order = list(calls)
            random.shuffle(order)
            for key in order:
                try:
                    took = calls[key]()
                    if n >= WARM: times[key].append(took)
                except (RuntimeError, OSError) as error:
                    calls.pop(key); times.pop(key)
                    self.notes.append(f'{key[0]}: {key[1]} is not measured: {str(error)[-300:]}')
        for (what, who), t in times.items():
            t, processor = zip(*t)
            if who == 'floor': self.floor = t
            low, middle, high = statistics.quantiles(t, n=4)
            self.processor.setdefault(what, {})[who] = statistics.median(processor)
            self.measured.setdefault(what, {})[who] = middle
            self.spread.setdefault(what, {})[who] = (low, middle, high)
            print(f'  {what:24} {who:6} {middle:8.2f} ms  ({low:.2f} to {high:.2f}, best {min(t):.2f}; processor {statistics.median(processor):.2f})', flush=True)

    def runs(self):
        name = f'bench-rt-{os.getpid()}'
        run = lambda who, bundle: lambda: timed(self.runtime(who, 'run', '--bundle', f'{self.base}/{bundle}', name))
        calls = {('run true', who): run(who, 'plain') for who in self.programs}
        calls['run true', 'floor'] = lambda: timed([f'{self.base}/floor', f'{self.base}/rootfs', name, '/bin/true'])
        self.in_turns(calls | {('run true, seccomp', who): run(who, 'seccomp') for who in self.programs})

    def execs(self):
        what, calls, started = 'exec true', {}, []
        for who in self.programs:
            name = f'bench-rt-{os.getpid()}-{who}'
            try:
                timed(self.runtime(who, 'run', '--detach', '--bundle', f'{self.base}/sleep', name))
            except RuntimeError as error:
                self.notes.append(f'{what}: {who} is not measured: {error}'); continue
            started.append((who, name))
            calls[what, who] = lambda who=who, name=name: timed(self.runtime(who, 'exec', name, '/bin/true'))
        try:
            self.in_turns(calls)
        finally:
            for who, name in started:
                subprocess.run(self.runtime(who, 'delete', '--force', name), capture_output=True)

    def memory(self):
        """The runtime's largest size over all it executes, and that of the init which waits for its start."""
        for who in self.programs:
            name, out = f'bench-rt-{os.getpid()}-m', f'{self.base}/highwater.out'
            try:
                timed([f'{self.base}/highwater', out, *self.runtime(who, 'create', '--bundle', f'{self.base}/seccomp', name)])
                pid = json.loads(must(*self.runtime(who, 'state', name)))['pid']
                status = open(f'/proc/{pid}/status').read()
                self.measured.setdefault('VmHWM of create, kB', {})[who] = int(open(out).read())
                self.measured.setdefault('VmHWM of its init, kB', {})[who] = int(re.search(r'VmHWM:\s+(\d+)', status)[1])
            except (RuntimeError, OSError, ValueError) as error:
                self.notes.append(f'memory: {who} is not measured: {str(error)[-300:]}')
            finally:
                subprocess.run(self.runtime(who, 'delete', '--force', name), capture_output=True)
        for what in ('VmHWM of create, kB', 'VmHWM of its init, kB'):
            for who, value in self.measured.get(what, {}).items(): print(f'  {what:24} {who:6} {value:8} kB', flush=True)

    def steps(self):
        """The time line of a start from the runtime's own trace points: the median time of each point, by process."""
        points = {}
        for n in range(self.a.rounds + WARM):
            with tempfile.TemporaryFile() as out:
                begin = time.monotonic_ns() // 1000
                arguments = self.runtime('wharf', 'run', '--bundle', f'{self.base}/seccomp', f'bench-rt-{os.getpid()}')
                took, _ = timed(arguments, dict(ENVIRONMENT, WHARF_TRACE=f'@{begin}'), out.fileno())
                out.seek(0)
                for line in out.read().decode().splitlines():
                    at, step = re.match(r'trace +(\d+) us +(.*)', line).groups()
                    if n >= WARM: points.setdefault(step, []).append(int(at))
                if n >= WARM: points.setdefault('end of the process', []).append(took * 1000)
        lines = [(statistics.median(at), step) for step, at in points.items()]
        runtime = [(at, step) for at, step in lines if not step.startswith('init: ')]
        init = [(at, step[6:]) for at, step in lines if step.startswith('init: ')]
        out = ['| step | at, us | took, us |', '|---|---|---|']
        for who, of in (('runtime', sorted(runtime)), ('init', sorted(init))):
            # Init begins where the runtime cloned it.
            last = 0 if who == 'runtime' else next((at for at, step in runtime if step == 'cgroups'), 0)
            for at, step in of:
                out.append(f'| {who}: {step} | {at:.0f} | {at - last:.0f} |')
                last = at
        return out

    def report(self):
        columns = [c for c in ('wharf', 'floor', 'crun', 'runc') if any(c in row for row in self.measured.values())]
        out = ['| measurement | ' + ' | '.join(columns) + ' | ' + ' | '.join(f'wharf / {c}' for c in columns[1:]) + ' |',
               '|---|' + '---|' * (2 * len(columns) - 1)]
        for what, row in self.measured.items():
            unit = '' if 'kB' in what else ' ms'
            number = (lambda v: f'{v:.0f}') if 'kB' in what else (lambda v: f'{v:.2f}')
            cells = [number(row[c]) + unit if c in row else '-' for c in columns]
            cells += [f"{row['wharf'] / row[c]:.2f}" if 'wharf' in row and row.get(c) else '-' for c in columns[1:]]
            out.append(f'| {what} | ' + ' | '.join(cells) + ' |')
        return out

    def judge(self):
        missed = []
        is_noisy = self.noise_factor() > NOISY
        if is_noisy: print('  the machine is busy: times are judged by processor time')
        for what, ratio, most in BUDGETS:
            try: value = ratio(self.processor if is_noisy and what.endswith(' ms') else self.measured)
            except KeyError as unmeasured:
                if unmeasured.args[0] == 'wharf': missed.append(f'{what}: not measured')
                continue
            print(f"  {'ok' if value <= most else 'MISSED':7} {what:36} {value:8.2f}, at most {most}")
            if value > most: missed.append(f'{what}: {value:.2f}, at most {most}')
        return missed

    def noise_factor(self):
        return statistics.median(self.floor) / min(self.floor)

    def noise(self):
        return (f'the floor took {self.noise_factor():.2f} times its best in the median, {max(self.floor) / min(self.floor):.1f} times at worst; '
                f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors')


def bundles(a, base):
    busybox = shutil.which('busybox', path='/bin:/usr/bin')
    for directory in ('bin', 'proc', 'sys', 'dev', 'etc', 'tmp', 'root'): os.makedirs(f'{base}/rootfs/{directory}')
    shutil.copy(busybox, f'{base}/rootfs/bin/busybox')
    for name in ('true', 'sleep'): os.symlink('busybox', f'{base}/rootfs/bin/{name}')
    profile = json.load(open(a.profile))
    for name, args in (('plain', ['/bin/true']), ('seccomp', ['/bin/true']), ('sleep', ['/bin/sleep', '1000'])):
        os.makedirs(f'{base}/{name}')
        must(f'{a.bin}/wharf-runtime', 'spec', '--bundle', f'{base}/{name}')
        config = json.load(open(f'{base}/{name}/config.json'))
        config['ociVersion'] = '1.0.2'  # the newest that Debian's crun knows
        config['process'].update(args=args, terminal=False)
        config['process'].pop('rlimits', None)  # raising them is refused on restricted hosts
        config['root']['path'] = f'{base}/rootfs'
        if name == 'seccomp': config['linux']['seccomp'] = profile
        json.dump(config, open(f'{base}/{name}/config.json', 'w'))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--bin', required=True); ap.add_argument('--profile', required=True); ap.add_argument('--rounds', type=int, default=61)
    ap.add_argument('--json'); ap.add_argument('--markdown'); ap.add_argument('--inside', help=argparse.SUPPRESS)
    a = ap.parse_args(); a.bin = os.path.abspath(a.bin)
    if not a.inside:
        base = tempfile.mkdtemp(prefix='wharf-bench-rt-', dir=os.environ.get('BENCH_DIR', '/var/tmp'))
        try:
            return subprocess.call(['unshare', '--mount', sys.executable, __file__, *sys.argv[1:], '--inside', base])
        finally:
            subprocess.call(['rm', '-rf', '--one-file-system', base])
    base, here = a.inside, os.path.dirname(os.path.abspath(__file__))
    if os.path.exists('/sys/fs/cgroup/memory') and not os.path.exists('/sys/fs/cgroup/hugetlb/cgroup.procs'):
        os.makedirs('/sys/fs/cgroup/hugetlb', exist_ok=True)
        subprocess.run(['mount', '-t', 'cgroup', '-o', 'hugetlb', 'cgroup', '/sys/fs/cgroup/hugetlb'])
    os.makedirs(f'{base}/state'); must('mount', '-t', 'tmpfs', 'tmpfs', f'{base}/state')
    for program in ('floor', 'highwater'):
        must('cc', '-O2', '-static', '-o', f'{base}/{program}', f'{here}/{program}.c')
    bundles(a, base)
    b = Bench(a, base)
    b.runs(); b.execs(); b.memory()
    steps, table = b.steps(), b.report()
    print('\n' + '\n'.join(table) + '\n\n' + '\n'.join(steps) + '\n')
    missed = b.judge()
    print('\n'.join(b.notes + ['noise: ' + b.noise()]))
    if a.markdown: open(a.markdown, 'w').write('\n'.join(table + [''] + steps + ['', b.noise()]) + '\n')
    if a.json: json.dump({'medians': b.measured, 'processor': b.processor, 'quartiles': b.spread}, open(a.json, 'w'), indent=1)
    for m in missed: print('MISSED:', m)
    return 1 if missed else 0


sys.exit(main())
