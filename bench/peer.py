"""What the comparisons share: calling programs, weighing processes, and engines that run privately."""
import argparse, contextlib, json, os, shutil, signal, socket, subprocess, sys, tempfile, time


def sh(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, **kw)


def must(*args, **kw):
    r = sh(*args, **kw)
    if r.returncode:
        raise RuntimeError(f"{' '.join(map(str, args))} exited {r.returncode}: {r.stderr[-2000:]}")
    return r.stdout


def pss_kb(pid):
    with contextlib.suppress(OSError):
        for line in open(f'/proc/{pid}/smaps_rollup'):
            if line.startswith('Pss:'):
                return int(line.split()[1])
    return 0


def pids_of(needle, also=''):
    """Processes whose command line holds both texts; peers that others run on this machine are not meant."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            line = open(f'/proc/{pid}/cmdline', 'rb').read().replace(b'\0', b' ').decode(errors='replace')
            if needle in line and also in line and int(pid) != os.getpid():
                found.append(int(pid))
    return found


class Engine:
    """A peer: how its commands start, and where its processes are."""
    def __init__(self, name, cli, env=None, process=None, keeper=None):
        self.name, self.cli, self.env, self.process, self.keeper = name, cli, dict(os.environ, **(env or {})), process, keeper

    def do(self, *args):
        r = sh(*self.cli, *args, env=self.env)
        if r.returncode:
            raise RuntimeError(f"{self.name} {' '.join(args)} exited {r.returncode}: {r.stderr[-1000:]}")
        return r.stdout

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()

    def reset(self):
        """Removes what it made; the folder that holds everything is removed by who made it."""


class Wharf(Engine):
    """Ours, which a test may kill and begin again."""
    def __init__(self, bin_dir, base, log, config=''):
        self.bin, self.root, self.run, self.log = bin_dir, f'{base}/wharf', f'{base}/wharf-run', log
        self.instance, self.socket = f'wb{os.getpid()}', f'{base}/wharf-run/wharf.sock'
        super().__init__('wharf', [f'{bin_dir}/wharf'], {'WHARF_HOST': f'unix://{self.socket}'}, None, self.keepers)
        open(f'{base}/config.toml', 'w').write(config)
        self.config, self.place = f'{base}/config.toml', ['--root', self.root, '--run', self.run, '--instance', self.instance]
        self.begin()

    def begin(self):
        self.process = subprocess.Popen([f'{self.bin}/wharf', 'daemon', '--config', self.config, *self.place], stdout=self.log, stderr=self.log)
        wait_socket(self.socket)

    def keepers(self):
        return [int(open(f'{self.run}/shims/{d}/pid').read().split()[0]) for d in os.listdir(f'{self.run}/shims')]

    def reset(self):
        sh(f'{self.bin}/wharf', 'system', 'reset', '--force', *self.place)


def wait_socket(path, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        with contextlib.suppress(OSError):
            s = socket.socket(socket.AF_UNIX); s.connect(path)
            s.sendall(b'GET /_ping HTTP/1.0\r\n\r\n')
            if b'200' in s.recv(64):
                return
        time.sleep(0.02)
    raise RuntimeError(f'nothing answers on {path}')


def start_docker(base, log):
    if not shutil.which('dockerd') or not shutil.which('docker'):
        return None
    sock = f'{base}/docker.sock'
    p = subprocess.Popen(['dockerd', '--data-root', f'{base}/docker', '--exec-root', f'{base}/docker-run', '-H', f'unix://{sock}', '--pidfile', f'{base}/docker.pid'], stdout=log, stderr=log)
    wait_socket(sock, 60)
    return Engine('docker', ['docker'], {'DOCKER_HOST': f'unix://{sock}', 'DOCKER_CONFIG': f'{base}/dc'}, p,
                  lambda: pids_of('containerd-shim', f'{base}/docker-run'))


def start_podman(base):
    if not shutil.which('podman'):
        return None
    # Raising limits is refused on restricted hosts; podman would not start anything there.
    open(f'{base}/containers.conf', 'w').write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')
    conf = f'{base}/registries.conf'
    open(conf, 'w').write('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
    cli = ['podman', '--root', f'{base}/podman', '--runroot', f'{base}/podman-run', '--tmpdir', f'{base}/podman-tmp', '--cgroup-manager', 'cgroupfs']
    return Engine('podman', cli, {'CONTAINERS_REGISTRIES_CONF': conf, 'CONTAINERS_CONF': f'{base}/containers.conf'}, None, lambda: pids_of('conmon', f'{base}/podman'))


def busybox_tar(path):
    d = tempfile.mkdtemp()
    for s in ('bin', 'etc', 'tmp', 'proc', 'sys', 'dev'):
        os.makedirs(f'{d}/{s}')
    bb = shutil.which('busybox', path='/bin:/usr/bin')
    shutil.copy(bb, f'{d}/bin/busybox')
    for a in must(bb, '--list').split():
        if a != 'busybox':
            os.symlink('busybox', f'{d}/bin/{a}')
    must('tar', '-C', d, '-cf', path, '.')
    shutil.rmtree(d)


def ms(f):
    """How long a call takes."""
    t = time.perf_counter(); f()
    return (time.perf_counter() - t) * 1000


def against_budgets(figures, budgets):
    """Figures as rows of a table, and which of them are over their budget."""
    rows = ['| measurement | figure | at most |', '|---|---|---|']
    rows += [f"| {what} | {value:.{0 if value >= 100 else 2}f} | {budgets.get(what, '-')} |" for what, value in figures.items()]
    return rows, [f'{what}: {figures[what]:.2f} is over {most}' for what, most in budgets.items() if figures.get(what, 0) > most]


def alone(parser, measure, config=''):
    """Runs `measure(engine, arguments)` with an engine that has busybox, in a network and mount namespace of their own.
    `{base}` in `config`, text of its configuration file, is the folder that everything is in.
    It answers figures, their budgets and what else was missed; the program ends with 1 if anything was."""
    parser.add_argument('--bin', required=True)
    parser.add_argument('--json'); parser.add_argument('--markdown'); parser.add_argument('--inside', help=argparse.SUPPRESS)
    a = parser.parse_args(); a.bin = os.path.abspath(a.bin)
    if not a.inside:
        base = tempfile.mkdtemp(prefix='wharf-bench-', dir=os.environ.get('BENCH_DIR', '/var/tmp'))
        try: return subprocess.call(['unshare', '--net', '--mount', sys.executable, *sys.argv, '--inside', base])
        finally: subprocess.call(['rm', '-rf', '--one-file-system', base])
    must('ip', 'link', 'set', 'lo', 'up')
    engine = Wharf(a.bin, a.inside, open(f'{a.inside}/log', 'w'), config.replace('{base}', a.inside))
    try:
        busybox_tar(f'{a.inside}/busybox.tar'); engine.do('import', f'{a.inside}/busybox.tar', 'busybox:latest')
        figures, budgets, missed = measure(engine, a)
        rows, over = against_budgets(figures, budgets)
        print('\n' + '\n'.join(rows))
        if a.markdown: open(a.markdown, 'w').write('\n'.join(rows) + '\n')
        if a.json: json.dump(figures, open(a.json, 'w'), indent=1)
        for m in over + missed: print('MISSED:', m)
        return 1 if over or missed else 0
    finally:
        engine.stop(); engine.reset()
