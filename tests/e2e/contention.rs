//! Many clients at the same container at once: every answer comes, and is one that Docker could give.

use std::sync::Mutex;
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
    std::thread::scope(|scope| {
        for client in 0..20 {
            let (s, wrong) = (&s, &wrong);
            scope.spawn(move || {
                let mut number = client * 7;
                while Instant::now() < end {
                    // Steps that share no factor with the count, so that each client has an order of its own.
                    number += [1, 3, 5, 9, 11][client % 5];
                    let (method, path, body) = REQUESTS[number % REQUESTS.len()];
                    let begin = Instant::now();
                    let answered = std::panic::catch_unwind(|| s.api(method, path, body));
                    let (status, answer) = answered.unwrap_or_else(|_| {
                        // What it was stuck on.
                        println!("{}\n{}", s.wharf(&["ops"]).stdout, s.engine_log());
                        (599, "no answer".into())
                    });
                    if status >= 500 || begin.elapsed() > Duration::from_secs(60) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{method} {path}: {status} {answer}"));
                    }
                }
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
