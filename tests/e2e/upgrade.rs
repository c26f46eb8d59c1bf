//! An engine is replaced by another build while containers serve: `make upgrade-test` builds the older one from the
//! history and names it in `WHARF_OLD_BIN`; without it the older build is a copy of this one, elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use wharf_testkit::Sandbox;
use wharf_testkit::sandbox::{shim_binary, wharf_binary};

use crate::truth::list_is_true;

const SERVERS: usize = 20;

/// The older build, with its shim beside it.
fn older(dir: &std::path::Path) -> PathBuf {
    if let Some(path) = std::env::var_os("WHARF_OLD_BIN") {
        return path.into();
    }
    eprintln!("upgrade: WHARF_OLD_BIN is not set, so the older build is a copy of this one");
    let program = dir.join("wharf");
    std::fs::copy(wharf_binary(), &program).unwrap();
    std::fs::copy(shim_binary(), dir.join("wharf-shim")).unwrap();
    program
}

fn fetch(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.ends_with("up\n"))
}

/// Asks the servers in turn until told to stop; what failed is kept.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(addresses: &[SocketAddr], threads: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let work = |n: usize| {
            let (stop, done, addresses) = (Arc::clone(&stop), Arc::clone(&done), addresses.to_vec());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                for address in addresses.iter().cycle().skip(n * 5) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match fetch(*address) {
                        Ok(true) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        other => failed.push(format!("{address}: {other:?}")),
                    }
                }
                failed
            })
        };
        let threads = (0..threads).map(work).collect();
        Self { stop, done, threads }
    }

    /// Waits for so many more answers.
    fn more(&self, s: &Sandbox, count: u64) {
        let goal = self.done.load(Ordering::Relaxed) + count;
        s.eventually(Duration::from_secs(60), "requests are answered", || {
            self.done.load(Ordering::Relaxed) >= goal
        });
    }

    /// Number of answers, and what failed.
    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        (self.done.load(Ordering::Relaxed), failed)
    }
}

fn serve(s: &Sandbox) -> Vec<SocketAddr> {
    let script = "mkdir /www; echo up > /www/index.html; exec httpd -f -p 80 -h /www";
    let start = |n: usize| {
        let name = format!("web{n}");
        s.docker(&[
            "run", "-d", "--name", &name, "-p", "0:80", "busybox", "sh", "-c", script,
        ])
        .ok();
        let port = s.docker(&["port", &name, "80/tcp"]);
        let port: u16 = port
            .ok()
            .lines()
            .next()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    };
    let addresses: Vec<SocketAddr> = (0..SERVERS).map(start).collect();
    for address in &addresses {
        s.eventually(Duration::from_secs(20), "it serves", || {
            fetch(*address).is_ok_and(|up| up)
        });
    }
    addresses
}

#[test]
fn twenty_servers_miss_no_request_while_their_engine_is_replaced() {
    let dir = tempfile_dir();
    let old = older(&dir);
    let mut s = Sandbox::start_from(&old);
    s.import_busybox();
    let addresses = serve(&s);
    s.docker(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 5; exit 9"])
        .ok();
    let load = Load::start(&addresses, 4);
    load.more(&s, 100);
    s.terminate();
    load.more(&s, 100);
    s.replace_program(&wharf_binary());
    s.boot();
    load.more(&s, 100);
    // The older shims are driven by the newer engine in everything that an engine asks of a shim.
    assert_eq!(s.docker(&["exec", "web0", "cat", "/www/index.html"]).ok(), "up");
    s.docker(&["pause", "web1"]).ok();
    s.docker(&["unpause", "web1"]).ok();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "young",
        "--network",
        "container:web2",
        "busybox",
        "sleep",
        "600",
    ])
    .ok();
    assert_eq!(s.docker(&["wait", "ends"]).ok(), "9");
    load.more(&s, 100);
    s.kill();
    load.more(&s, 100);
    s.boot();
    load.more(&s, 100);
    let (done, failed) = load.end();
    eprintln!("upgrade: {done} requests answered, {} failed", failed.len());
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        done + failed.len() as u64
    );
    list_is_true(&s, "after the upgrade");
    s.docker(&["update", "--memory", "64m", "--memory-swap", "64m", "web3"])
        .ok();
    s.docker(&["restart", "-t", "0", "web4"]).ok();
    s.docker(&["rm", "-f", "web5"]).ok();
    s.docker(&["stop", "-t", "0", "web6"]).ok();
    assert_eq!(s.docker(&["ps", "-q"]).ok().lines().count(), SERVERS - 1);
    let _ = std::fs::remove_dir_all(dir);
}

fn tempfile_dir() -> PathBuf {
    let name = format!("wharf-older-{}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
