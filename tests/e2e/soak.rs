//! Random kills of the engine under load. `make test` does it for a minute, `make soak` a thousand times.
//!
//! | variable | default | what |
//! |---|---|---|
//! | `WHARF_SOAK_KILLS` | none | so many kills, however long that takes |
//! | `WHARF_SOAK_SECONDS` | 60 | without it: as many as fit into this time |
//! | `WHARF_SOAK_CONTAINERS` | 20 | containers that run all the time |
//! | `WHARF_SOAK_SEED` | the time | to repeat a run |

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wharf_testkit::Sandbox;
use wharf_testkit::process::kill_group;

use crate::truth::{Random, list_is_true, nothing_is_left};

/// What loads the engine; each goes on over all kills, with errors while there is no engine. No name may be read as
/// the beginning of an id, or the removal of what is gone already hits somebody else. `exits` always exit
/// with 7, unless they were never started.
const LOADS: [&str; 4] = [
    "docker create --name w1 -v named:/v -v /anonymous -p 0:80 busybox sleep 60; docker start w1; docker exec w1 echo hi; \
     docker commit w1 made:1; docker stop -t 0 w1; docker rm -f -v w1; docker rmi made:1",
    "docker network create n2; docker run -d --name w2 --network n2 -p 0:80 busybox sleep 60; docker network connect bridge w2; \
     docker exec w2 true; docker network disconnect bridge w2; docker restart -t 0 w2; docker pause w2; docker unpause w2; \
     docker update --memory 64m --memory-swap 64m w2; docker rm -f w2; docker network rm n2",
    "docker run --rm busybox true; docker run -d --name exits$((i=i+1)) busybox sh -c 'usleep 100000; exit 7'; \
     docker volume create v3; docker volume rm v3; docker container prune -f --filter label=never; \
     [ $((i%10)) = 0 ] && docker container prune -f",
    "docker run --rm -i --network none busybox cat </dev/null; docker create --name w4 --restart always busybox sleep 0.2; \
     docker start w4; docker rename w4 y4; docker kill y4; docker start y4; docker stop -t 1 y4; docker rm -f w4 y4; \
     docker tag busybox again:1; docker rmi again:1",
];

/// A group of processes that is killed whatever happens.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        kill_group(&mut self.0);
    }
}

fn load(s: &Sandbox, script: &str) -> Load {
    let client = s.docker_command();
    let environment = client
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("i=0; while :; do {script}; done")]);
    shell
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    Load(shell.spawn().unwrap())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    number("WHARF_SOAK_SEED").unwrap_or(now.unwrap().as_nanos() as u64) | 1
}

/// Containers that run all the time; one counts, one serves. Answers the port that is served.
fn residents(s: &Sandbox, count: u64) -> u16 {
    let script = "i=0; while :; do echo $i; i=$((i+1)); usleep 3000; done";
    s.docker(&["run", "-d", "--name", "count", "busybox", "sh", "-c", script])
        .ok();
    let serve = "mkdir /www; echo up > /www/index.html; exec httpd -f -p 80 -h /www";
    s.docker(&["run", "-d", "--name", "web", "-p", "0:80", "busybox", "sh", "-c", serve])
        .ok();
    for n in 0..count {
        s.docker(&[
            "run",
            "-d",
            "--name",
            &format!("resident{n}"),
            "busybox",
            "sleep",
            "86400",
        ])
        .ok();
    }
    let port = s.docker(&["port", "web", "80/tcp"]);
    let first = port.ok().lines().next().unwrap();
    first.rsplit(':').next().unwrap().parse().unwrap()
}

/// Containers that ended by themselves have their exit code.
fn exits_are_right(s: &Sandbox, when: &str) {
    let (_, list) = s.api(
        "GET",
        "/containers/json?all=1&filters=%7B%22status%22%3A%5B%22exited%22%5D%7D",
        "",
    );
    for container in list.as_array().unwrap() {
        let name = container["Names"][0].as_str().unwrap();
        if name.starts_with("/exits") {
            let status = container["Status"].as_str().unwrap();
            assert!(
                status.starts_with("Exited (7)"),
                "{when}: {name}: {status}\n{}",
                s.engine_log()
            );
        }
    }
}

/// The numbers are all there, in order, in the log and at the client that was attached all the time.
fn counted(text: &str) -> u64 {
    let mut expected = 0;
    for line in text.lines() {
        assert_eq!(line, expected.to_string(), "nothing is lost and nothing doubled");
        expected += 1;
    }
    expected
}

#[test]
fn kills_at_random_moments_under_load_lose_nothing_and_leave_nothing() {
    let (kills, seconds) = (number("WHARF_SOAK_KILLS"), number("WHARF_SOAK_SECONDS").unwrap_or(60));
    let seed = seed();
    eprintln!("soak: seed {seed}");
    let mut random = Random(seed);
    let mut s = Sandbox::with_busybox();
    let port = residents(&s, number("WHARF_SOAK_CONTAINERS").unwrap_or(20));
    let mut attach = s.docker_command();
    attach.args(["attach", "--no-stdin", "--sig-proxy=false", "count"]);
    let client = s.path("attached");
    attach
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&client).unwrap())
        .stderr(Stdio::null());
    let mut attached = attach.spawn().unwrap();
    s.eventually(Duration::from_secs(20), "a client is attached", || {
        std::fs::metadata(&client).is_ok_and(|file| file.len() > 0)
    });
    let loads: Vec<Load> = LOADS.iter().map(|script| load(&s, script)).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut ups = Vec::new();
    while kills.map_or(Instant::now() < end, |kills| (ups.len() as u64) < kills) {
        std::thread::sleep(Duration::from_millis(20 + random.below(380)));
        s.kill();
        assert!(
            TcpStream::connect(("127.0.0.1", port)).is_ok(),
            "the port is served without an engine"
        );
        ups.push(s.boot());
        let when = format!("seed {seed}, kill {}", ups.len());
        exits_are_right(&s, &when);
        if ups.len() % 10 == 0 {
            list_is_true(&s, &when);
        }
    }
    drop(loads);
    report(&mut ups);
    s.kill();
    s.boot();
    list_is_true(&s, "after all kills");
    let _ = (s.docker(&["stop", "-t", "0", "count"]).ok(), attached.wait());
    let logged = s.docker(&["logs", "count"]);
    let total = counted(logged.ok());
    let seen = std::fs::read_to_string(client).unwrap();
    let first: u64 = seen.lines().next().unwrap().parse().unwrap();
    let seen: Vec<u64> = seen.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(
        seen,
        (first..total).collect::<Vec<_>>(),
        "the attached client saw everything"
    );
    clear(&s);
    nothing_is_left(&s);
}

/// How long the engines needed until they answered.
fn report(ups: &mut [Duration]) {
    ups.sort();
    let at = |share: usize| ups.get(ups.len() * share / 100).or(ups.last());
    eprintln!(
        "soak: {} kills; a new engine answered after {:?} (median), {:?} (90 of 100), {:?} (longest)",
        ups.len(),
        at(50).unwrap(),
        at(90).unwrap(),
        ups.last().unwrap()
    );
    // A debug build beside the load on two processors: the longest may be an outlier of the machine.
    assert!(*at(50).unwrap() < Duration::from_secs(1), "{ups:?}");
}

fn clear(s: &Sandbox) {
    let all = s.docker(&["ps", "-aq"]).ok().to_owned();
    let ids: Vec<&str> = all.lines().collect();
    for some in ids.chunks(20) {
        s.docker(&[&["rm", "-f", "-v"], some].concat()).ok();
    }
    s.docker(&["system", "prune", "-af", "--volumes"]).ok();
    s.wharf(&["volume", "prune", "-af"]).ok();
}
