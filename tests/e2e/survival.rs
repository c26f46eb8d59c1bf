//! The engine may die at any moment: containers go on, nothing is lost, nothing leaks.

use std::process::Stdio;
use std::time::Duration;
use wharf_testkit::{Registry, Sandbox};

use crate::truth::{Random, list_is_true, nothing_is_left};

#[test]
fn a_counting_container_does_not_notice_the_engine_s_death() {
    let mut s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "count",
        "busybox",
        "sh",
        "-c",
        "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); usleep 5000; done; exit 5",
    ])
    .ok();
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", "count"]).ok().to_owned();
    for _ in 0..3 {
        s.kill();
        std::thread::sleep(Duration::from_millis(150));
        assert!(s.boot() < Duration::from_secs(1), "a new engine is up within a second");
        let now = s.docker(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "count"]);
        assert_eq!(now.ok(), format!("running {pid}"));
    }
    assert_eq!(s.docker(&["wait", "count"]).ok(), "5");
    let lines = s.docker(&["logs", "count"]);
    let expected: Vec<String> = (0..400).map(|i| i.to_string()).collect();
    assert_eq!(lines.ok().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_exit_while_no_engine_runs_is_known_to_the_next() {
    let mut s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "ends",
        "busybox",
        "sh",
        "-c",
        "sleep 0.3; exit 6",
    ])
    .ok();
    s.docker(&["run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "0.3"])
        .ok();
    s.kill();
    std::thread::sleep(Duration::from_millis(800));
    s.boot();
    let state = || {
        s.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"])
            .ok()
            .to_owned()
    };
    s.eventually(Duration::from_secs(3), "the exit is known", || state() == "exited 6");
    s.eventually(Duration::from_secs(3), "--rm is kept", || {
        s.docker(&["ps", "-aq", "--filter", "name=gone"]).ok().is_empty()
    });
}

#[test]
fn an_attached_client_outlives_the_engine() {
    let mut s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "talk",
        "busybox",
        "sh",
        "-c",
        "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.1; done",
    ])
    .ok();
    let client = s
        .docker_command()
        .args(["attach", "--no-stdin", "--sig-proxy=false", "talk"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    s.kill();
    let out = client.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).ends_with("19\n"), "{out:?}");
    s.boot();
}

#[test]
fn a_published_port_answers_while_no_engine_runs() {
    let mut s = Sandbox::with_busybox();
    let serve = "mkdir /www; echo up > /www/index.html; exec httpd -f -p 80 -h /www";
    s.docker(&["run", "-d", "--name", "web", "-p", "0:80", "busybox", "sh", "-c", serve])
        .ok();
    let port = s
        .docker(&["port", "web", "80/tcp"])
        .ok()
        .lines()
        .next()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let up = || {
        wharf_testkit::run(
            std::process::Command::new("curl").args(["-sf", "-m", "2", &format!("http://127.0.0.1:{port}/")]),
            b"",
            Duration::from_secs(5),
        )
        .unwrap()
        .code
            == 0
    };
    s.eventually(Duration::from_secs(5), "it serves", up);
    s.kill();
    for _ in 0..20 {
        assert!(up());
    }
    s.boot();
    assert!(up());
}

#[test]
fn fifty_kills_at_random_moments_leave_nothing() {
    let mut s = Sandbox::with_busybox();
    let registry = Registry::start();
    let name = format!("{}/loop:1", registry.address());
    s.docker(&["tag", "busybox", &name]).ok();
    s.docker(&["push", &name]).ok();
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
        | 1;
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let script = format!(
        "while :; do docker rmi -f {name}; docker pull -q {name}; docker create --name c1 -v vol:/v {name} sleep 60; docker start c1; \
         docker exec c1 echo hi; docker stop -t 0 c1; docker rm -f c1; docker run --rm --network none {name} true; done"
    );
    for round in 0..50 {
        let mut load = s.docker_command();
        let docker_env: Vec<_> = load
            .get_envs()
            .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
            .collect();
        load = std::process::Command::new("sh");
        load.args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        load.envs(docker_env.into_iter().filter_map(|(k, v)| v.map(|v| (k, v))));
        std::os::unix::process::CommandExt::process_group(&mut load, 0);
        let mut load = load.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(50 + random.below(450)));
        s.kill();
        wharf_testkit::process::kill_group(&mut load);
        let up = s.boot();
        assert!(up < Duration::from_secs(1), "round {round}: the engine needed {up:?}");
        list_is_true(&s, &format!("round {round}"));
    }
    let all = s.docker(&["ps", "-aq"]).ok().to_owned();
    if !all.is_empty() {
        let ids: Vec<&str> = all.lines().collect();
        s.docker(&[&["rm", "-f"], &ids[..]].concat()).ok();
    }
    s.docker(&["system", "prune", "-af", "--volumes"]).ok();
    s.wharf(&["volume", "prune", "-af"]).ok();
    nothing_is_left(&s);
}
