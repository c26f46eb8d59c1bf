#!/usr/bin/env python3
"""How long the engine takes for others while something of one container hangs.

usage: stuck.py --bin DIR [--rounds N] [--json FILE] [--markdown FILE]
Beside each thing that hangs, `ps -a`, `inspect` and `logs` of the container that is stuck, and `run` of another one are
timed, from the moment it hangs; the longest of each counts. Exit 1 when one takes longer than BUDGET_MS."""
import argparse, contextlib, json, os, socket, struct, subprocess, sys, threading, time
from peer import alone, ms, must, sh

BUDGET_MS = 100.0
PLUGIN_SECONDS = 20  # that the engine gives a plugin: longer than all is measured beside one that hangs
CONFIG = 'plugin-dirs = ["{base}/plugins"]\nplugin-seconds = %d\n[runtimes]\nhangs = "{base}/hangs"\n' % PLUGIN_SECONDS
SOON_S = 30


def daemon(target, *args):
    threading.Thread(target=target, args=args, daemon=True).start()


class Fuse:
    """A file system whose server answers what a lookup needs, and nothing that reads; once it is `dead`, nothing at all."""
    LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, OPENDIR, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 27, 42

    def __init__(self, at):
        self.at, self.dead, self.asked = at, False, 0  # what was taken and never answered
        os.mkdir(at)
        self.device = os.open('/dev/fuse', os.O_RDWR)
        daemon(self.serve)  # before it is mounted, as mounting looks at it
        must('mount', '-i', '-t', 'fuse', 'hung', at, '-o', f'fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other', pass_fds=[self.device])

    def serve(self):
        while True:
            try: request = os.read(self.device, 1 << 17)
            except PermissionError: time.sleep(0.001); continue  # not mounted yet
            except OSError: return
            _, opcode, unique, node = struct.unpack_from('IIQQ', request)
            if opcode in (self.FORGET, self.BATCH_FORGET): continue
            if opcode == self.READ or self.dead: self.asked += 1; continue
            error, body = self.answer(opcode, node, request[40:])
            with contextlib.suppress(OSError): os.write(self.device, struct.pack('IiQ', 16 + len(body), error, unique) + body)

    def answer(self, opcode, node, name):
        def attributes(node):
            return struct.pack('6Q10I', node, 4096, 8, 0, 0, 0, 0, 0, 0, 0o100644 if node == 2 else 0o40755, 1, 0, 0, 0, 4096, 0)
        if opcode == self.INIT: return 0, struct.pack('6I', 7, 31, 4096, 0, 0, 4096).ljust(64, b'\0')
        if opcode == self.GETATTR: return 0, bytes(16) + attributes(node)
        if opcode == self.LOOKUP and name.startswith(b'hang\0'): return 0, struct.pack('5Q', 2, 0, 0, 0, 0) + attributes(2)
        if opcode in (self.OPEN, self.OPENDIR): return 0, bytes(16)
        return (-2 if opcode == self.LOOKUP else -38), b''

    def let_go(self):
        for how in ('-f', '-l'): sh('umount', '-i', '-c', how, self.at)


class Plugin:
    """A volume plugin with volumes of any name, until it hangs."""
    def __init__(self, base):
        self.hangs, self.data = False, f'{base}/plugins/data'
        os.makedirs(self.data)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f'{base}/plugins/shelf.sock'); self.listener.listen()
        daemon(self.accept)

    def accept(self):
        while True: daemon(self.serve, self.listener.accept()[0])

    def serve(self, connection):
        file = connection.makefile('rwb')
        what, length = file.readline().split()[1].decode(), 0
        while header := file.readline().strip():
            if header.lower().startswith(b'content-length:'): length = int(header.split(b':')[1])
        body = json.loads(file.read(length) or '{}')
        while self.hangs: time.sleep(0.1)
        volume = {'Name': body.get('Name'), 'Mountpoint': self.data}
        answer = json.dumps({'Implements': ['VolumeDriver'], 'Mountpoint': self.data, 'Volume': volume, 'Volumes': [],
                             'Capabilities': {'Scope': 'local'}, 'Err': ''} if 'List' not in what else {'Volumes': []}).encode()
        with contextlib.suppress(OSError): self.say(file, answer)  # who asked may have given up
        connection.close()

    def say(self, file, answer):
        file.write(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(answer) + answer); file.flush()

    def is_silent(self):
        """Whether a request gets no answer."""
        with socket.socket(socket.AF_UNIX) as ask:
            ask.connect(self.listener.getsockname()); ask.settimeout(0.3)
            ask.sendall(b'POST /Plugin.Activate HTTP/1.1\r\n\r\n')
            try: return not ask.recv(1)
            except TimeoutError: return True


class Stuck:
    def __init__(self, engine, base, rounds):
        self.engine, self.base, self.rounds, self.figures = engine, base, rounds, {}

    def begin(self, *args):
        """A command that will hang."""
        return subprocess.Popen([*self.engine.cli, *args], env=self.engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def until(self, what, is_so):
        end = time.time() + SOON_S
        while not is_so():
            if time.time() > end: raise RuntimeError(f'never: {what}')
            time.sleep(0.02)

    def beside(self, thing, name, hangs):
        """The longest that each command took beside it, which must still hang then."""
        commands = {'ps': ['ps', '-a'], 'inspect': ['inspect', name], 'logs': ['logs', '--tail', '10', name], 'run': ['run', '--rm', 'busybox', 'true']}
        longest = dict.fromkeys(commands, 0.0)
        for _ in range(self.rounds):
            for what, args in commands.items():
                longest[what] = max(longest[what], ms(lambda: self.engine.do(*args)))
        if not hangs(): raise RuntimeError(f'{thing}: it did not hang all the time')
        for what, took in longest.items():
            self.figures[f'{what} beside {thing}, ms'] = took
            print(f'  {what + " beside " + thing:60} {took:10.2f}', flush=True)

    def dead_process(self):
        fuse = Fuse(f'{self.base}/hung')
        try:
            self.engine.do('run', '-d', '--name', 'reads', '-v', f'{fuse.at}:/mnt', 'busybox', 'sh', '-c', 'echo reading; cat /mnt/hang')
            self.until('it reads', lambda: fuse.asked)
            stop = self.begin('stop', '-t', '0', 'reads')
            self.beside('a process that cannot die', 'reads', lambda: self.engine.do('inspect', '-f', '{{.State.Running}}', 'reads').strip() == 'true')
            self.engine.do('create', '--name', 'needs', '-v', f'{fuse.at}/sub:/mnt', 'busybox', 'true')
            fuse.dead, fuse.asked = True, 0
            start = self.begin('start', 'needs')
            self.until('it is looked for', lambda: fuse.asked)
            self.beside('a start from a dead file system', 'needs', lambda: start.poll() is None)
        finally: fuse.let_go()
        stop.wait(); start.wait()

    def plugin(self):
        plugin = Plugin(self.base)
        self.engine.do('run', '-d', '--name', 'user', '--volume-driver', 'shelf', '-v', 'v1:/x', 'busybox', 'sh', '-c', 'echo here; sleep 1000')
        plugin.hangs = True
        self.beside('a volume plugin from the moment it hangs', 'user', plugin.is_silent)
        asks = [self.begin('volume', 'inspect', 'unknown'), self.begin('rm', '-f', 'user'), self.begin('run', '--rm', '-v', 'v2:/x', '--volume-driver', 'shelf', 'busybox', 'true')]
        time.sleep(0.2)
        self.beside('three requests that wait for the plugin', 'user', lambda: all(ask.poll() is None for ask in asks))
        plugin.hangs = False
        for ask in asks: ask.wait()

    def target(self):
        listener = socket.create_server(('127.0.0.1', 0))
        address = f'syslog-address=tcp://127.0.0.1:{listener.getsockname()[1]}'
        line = '0123456789' * 10
        script = f'i=0; while [ $i -lt 100000 ]; do echo {line}; i=$((i+1)); done; touch /said; sleep 1000'
        self.engine.do('run', '-d', '--name', 'says', '--log-driver', 'syslog', '--log-opt', address, 'busybox', 'sh', '-c', script)
        self.until('it said all', lambda: sh(*self.engine.cli, 'exec', 'says', 'test', '-e', '/said', env=self.engine.env).returncode == 0)
        listener.settimeout(SOON_S)
        with listener.accept()[0] as connection:  # of what it is sent the first byte is still there afterwards
            connection.settimeout(0)
            self.beside('a log target that takes nothing', 'says', lambda: connection.recv(1, socket.MSG_PEEK))

    def runtime(self):
        """As one does that waits for a hook."""
        with open(f'{self.base}/hangs', 'w') as script: script.write('#!/bin/sh\ncase " $* " in *" create "*) exec sleep 30;; esac\n')
        os.chmod(f'{self.base}/hangs', 0o755)
        self.engine.do('create', '--name', 'made', '--runtime', 'hangs', 'busybox', 'true')
        start = self.begin('start', 'made')
        time.sleep(0.2)
        self.beside('a runtime that hangs', 'made', lambda: start.poll() is None)
        start.wait()


def measure(engine, a):
    stuck = Stuck(engine, a.inside, a.rounds)
    for _ in range(a.rounds): engine.do('run', '--rm', 'busybox', 'true')
    for part in (stuck.plugin, stuck.target, stuck.runtime, stuck.dead_process): part()
    return stuck.figures, dict.fromkeys(stuck.figures, BUDGET_MS), []


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--rounds', type=int, default=20)
    return alone(ap, measure, CONFIG)


if __name__ == '__main__': sys.exit(main())
