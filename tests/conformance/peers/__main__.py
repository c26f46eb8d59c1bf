"""The runtime under Docker, containerd and Podman, compared with runc in the same engine.

    python3 tests/conformance/peers --runtime PATH [--rounds 100] [--only docker,containerd,podman,podman_rootless]

Each case is asked twice, with runc and with the runtime under test, and the answers must be the same. Then
containers are run, entered, paused, resumed, updated, killed and deleted, and nothing may be left. Every engine
has roots, sockets and cgroups of its own.
"""
import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback


def differences(want, got, at=""):
    """Where two answers differ, one line each."""
    if isinstance(want, dict) and isinstance(got, dict):
        if want.get("no worse") and want.get("code") != 0 and got.get("code") == 0:
            return []
        return [line for key in {**want, **got} for line in differences(want.get(key), got.get(key), f"{at}[{key}]")]
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)) and len(want) == len(got):
        return [line for i, (w, g) in enumerate(zip(want, got)) for line in differences(w, g, f"{at}[{i}]")]
    if isinstance(want, list) and isinstance(got, list):
        return [f"{at}: only with runc {[x for x in want if x not in got]}, only with ours {[x for x in got if x not in want]}"]
    return [] if want == got else [f"{at}: runc {want!r}, ours {got!r}"]


def answer(module, engine, case, which):
    module.choose(engine, which)
    try:
        return case(engine)
    except Exception as error:  # what failed is the answer
        return f"failed: {error}"


def compare(module, engine, chosen):
    failed = 0
    for case in module.CASES:
        if chosen and case.__name__ not in chosen:
            continue
        want = answer(module, engine, case, "runc")
        got = answer(module, engine, case, "wharf")
        lines = differences(want, got)
        if isinstance(got, str) and got.startswith("failed:") and not lines:
            lines = [f"both {got}"]
        print(f"{'FAIL' if lines else 'pass'}  {engine.name}  {case.__name__}: {case.__doc__.strip()}", flush=True)
        for line in lines[:40]:
            print(f"      {line}", flush=True)
        failed += bool(lines)
    return failed


def cycles(module, engine, rounds):
    module.choose(engine, "wharf")
    engine.cycle(0)
    before, start = engine.holdings(), time.monotonic()
    for number in range(1, rounds + 1):
        try:
            engine.cycle(number)
        except Exception as error:
            print(f"FAIL  {engine.name}  round {number}: {error!r}", flush=True)
            return 1
    seconds = time.monotonic() - start
    lines = differences(before, engine.holdings())
    word = "FAIL" if lines else "pass"
    print(f"{word}  {engine.name}  {rounds} rounds of {module.ROUND} in {seconds:.1f} s; left behind: {lines or 'nothing'}", flush=True)
    return bool(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", default="docker,containerd,podman,podman_rootless")
    parser.add_argument("--cases", default="")
    parser.add_argument("--keep", action="store_true", help="keep the scratch directory")
    options = parser.parse_args()
    runtime, failed = os.path.abspath(options.runtime), 0
    for module in [importlib.import_module(name) for name in options.only.split(",")]:
        name = module.__name__
        missing = [program for program in module.NEEDS if not shutil.which(program)]
        if missing:
            print(f"skip  {name}: not installed: {', '.join(missing)}")
            continue
        scratch = tempfile.mkdtemp(prefix="wharf-peers-")
        os.chdir(scratch)  # conmon leaves a file where it is started
        try:
            with module.open_with(scratch, runtime) as engine:
                failed += compare(module, engine, [case for case in options.cases.split(",") if case])
                failed += cycles(module, engine, options.rounds)
        except Exception:
            traceback.print_exc()
            failed += 1
        finally:
            os.chdir("/")
            if not options.keep:
                shutil.rmtree(scratch, ignore_errors=True)
    print(f"peers: {'all as with runc' if not failed else f'{failed} differ'}")
    sys.exit(1 if failed else 0)


main()
