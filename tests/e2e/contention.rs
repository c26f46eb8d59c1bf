//! Many clients at the same container at once: every answer comes, and is one that Docker could give.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use wharf_testkit::Sandbox;

const BODY: &str = r#"{"Image": "busybox", "Cmd": ["sh", "-c", "trap 'exit 3' TERM; while :; do usleep 10000; done"],
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}, "Binds": ["data:/data"]}}"#;

const REQUESTS: [(&str, &str, &str); 14] = [
    ("POST", "/containers/create?name=thing", BODY),
    ("POST", "/containers/thing/start", ""),
    ("POST", "/containers/thing/start", ""),
    ("POST", "/containers/thing/stop?t=1", ""),
    ("DELETE", "/containers/thing", ""),
    ("DELETE", "/containers/thing?force=1&v=1", ""),
    ("POST", "/containers/thing/kill", ""),
    ("POST", "/containers/thing/restart?t=0", ""),
    ("POST", "/containers/thing/pause", ""),
    ("POST", "/containers/thing/unpause", ""),
    ("POST", "/containers/thing/update", r#"{"Memory": 67108864}"#),
    ("GET", "/containers/thing/json?size=1", ""),
    ("GET", "/containers/thing/top", ""),
    ("GET", "/containers/json?all=1", ""),
];

#[test]
fn twenty_clients_of_one_container_get_answers_and_leave_nothing() {
    let s = Sandbox::with_busybox();
    let end = Instant::now() + Duration::from_secs(3);
    let wrong = Mutex::new(Vec::new());
    let busy = AtomicU32::new(20);
    std::thread::scope(|scope| {
        scope.spawn(|| tell_what_waits(&s, end + Duration::from_secs(5), &busy));
        for client in 0..20 {
            let (s, wrong, busy) = (&s, &wrong, &busy);
            scope.spawn(move || {
                let mut number = client * 7;
                while Instant::now() < end {
                    // Steps that share no factor with the count, so that each client has an order of its own.
                    number += [1, 3, 5, 9, 11][client % 5];
                    let (method, path, body) = REQUESTS[number % REQUESTS.len()];
                    let begin = Instant::now();
                    let answered = std::panic::catch_unwind(|| s.api(method, path, body));
                    let (status, answer) = answered.unwrap_or((599, "no answer".into()));
                    if status >= 500 || begin.elapsed() > Duration::from_secs(10) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{method} {path}: {status} {answer}, {:?}", begin.elapsed()));
                    }
                }
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    s.api("DELETE", "/containers/thing?force=1&v=1", "");
    let left = |dir: std::path::PathBuf| std::fs::read_dir(dir).unwrap().count();
    s.eventually(Duration::from_secs(5), "nothing of it is left", || {
        left(s.root().join("containers")) + left(s.run_dir().join("shims")) + left(s.run_dir().join("netns")) == 0
    });
}

/// From `late` on tells what the engine waits for, until nobody waits for the engine.
fn tell_what_waits(s: &Sandbox, late: Instant, busy: &AtomicU32) {
    let mut told = String::new();
    while busy.load(Ordering::Relaxed) > 0 {
        std::thread::sleep(Duration::from_millis(100));
        if Instant::now() > late {
            let text = s.wharf(&["ops"]).stdout;
            if text != told {
                println!("{text}");
                told = text;
            }
        }
    }
}
