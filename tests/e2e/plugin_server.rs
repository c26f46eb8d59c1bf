//! A volume plugin for the tests: a folder per volume, every call written down, and misbehaviour on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// How a request is answered instead of properly.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    /// Not at all, until the mood passes; then the connection is closed.
    Hang,
    /// Properly, once the mood has passed.
    Late,
    /// With these words in `Err`.
    Refuse(&'static str),
    /// With this status and body.
    Status(u16, &'static str),
    /// It is done, and answered with this body.
    Babble(&'static str),
    /// With a body that does not end.
    Flood,
}

/// A server at a unix socket (or a TCP port), which goes when this is dropped.
pub(crate) struct PluginServer {
    shared: Arc<Shared>,
    socket: Option<PathBuf>,
    port: u16,
}

#[derive(Default)]
struct Shared {
    data: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<String, Value>,
    mounted: BTreeSet<(String, String)>,
    calls: Vec<String>,
    faults: Vec<String>,
    moods: BTreeMap<String, Mood>,
    gone: bool,
}

impl PluginServer {
    /// Serves `<dir>/<name>.sock`; volumes are folders of `<dir>/<name>.data`.
    pub(crate) fn start(dir: &Path, name: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let socket = dir.join(format!("{name}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Shared::in_folder(&dir.join(format!("{name}.data")));
        let served = Arc::clone(&shared);
        std::thread::spawn(move || served.accept(listener.incoming(), UnixStream::try_clone));
        Self {
            shared,
            socket: Some(socket),
            port: 0,
        }
    }

    /// The same at a TCP port of this machine.
    pub(crate) fn start_tcp(dir: &Path, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Shared::in_folder(&dir.join(format!("{name}.data")));
        let served = Arc::clone(&shared);
        std::thread::spawn(move || served.accept(listener.incoming(), TcpStream::try_clone));
        Self {
            shared,
            socket: None,
            port,
        }
    }

    /// The port of [`PluginServer::start_tcp`].
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on `request` (`VolumeDriver.Mount`) is answered so.
    pub(crate) fn mood(&self, request: &str, mood: Mood) {
        self.shared.state.lock().unwrap().moods.insert(request.to_owned(), mood);
    }

    /// Every request hangs.
    pub(crate) fn hang(&self) {
        self.mood("*", Mood::Hang);
    }

    /// All is well again; what hung is never answered.
    pub(crate) fn recover(&self) {
        self.shared.state.lock().unwrap().moods.clear();
        self.shared.changed.notify_all();
    }

    /// What was asked so far, `VolumeDriver.Mount NAME`, but for looks (`Get`, `List`, `Capabilities`, `Path`).
    pub(crate) fn calls(&self) -> Vec<String> {
        let is_look = |call: &String| {
            ["Get", "List", "Capabilities", "Path"]
                .iter()
                .any(|l| call.starts_with(l))
        };
        let state = self.shared.state.lock().unwrap();
        state.calls.iter().filter(|call| !is_look(call)).cloned().collect()
    }

    /// How often it was asked anything, looks among it.
    pub(crate) fn asked(&self) -> usize {
        self.shared.state.lock().unwrap().calls.len()
    }

    /// How often `call` (`Mount NAME`) was asked.
    pub(crate) fn count(&self, call: &str) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.calls.iter().filter(|known| *known == call).count()
    }

    /// Volumes that are mounted now, once per mount.
    pub(crate) fn mounted(&self) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        state.mounted.iter().map(|(volume, _)| volume.clone()).collect()
    }

    /// What the engine did that no plugin should see: a second mount by one id, an unmount of what is not mounted.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().faults.clone()
    }

    /// The names of its volumes.
    pub(crate) fn volumes(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().volumes.keys().cloned().collect()
    }

    /// The options a volume was made with.
    pub(crate) fn options(&self, volume: &str) -> Value {
        self.shared.state.lock().unwrap().volumes[volume].clone()
    }

    /// Makes a volume that the engine knows nothing of.
    pub(crate) fn make(&self, volume: &str) {
        let mut state = self.shared.state.lock().unwrap();
        std::fs::create_dir_all(self.shared.folder(volume)).unwrap();
        state.volumes.insert(volume.to_owned(), json!({}));
    }

    /// Loses a volume behind the engine's back.
    pub(crate) fn lose(&self, volume: &str) {
        self.shared.state.lock().unwrap().volumes.remove(volume);
    }

    /// The folder of a volume's files.
    pub(crate) fn folder(&self, volume: &str) -> PathBuf {
        self.shared.folder(volume)
    }
}

impl Drop for PluginServer {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().gone = true;
        self.shared.changed.notify_all();
        match &self.socket {
            Some(socket) => {
                let _ = UnixStream::connect(socket); // wakes whoever accepts
                let _ = std::fs::remove_file(socket);
            }
            None => {
                let _ = TcpStream::connect(("127.0.0.1", self.port));
            }
        }
    }
}

impl Shared {
    fn in_folder(data: &Path) -> Arc<Self> {
        std::fs::create_dir_all(data).unwrap();
        Arc::new(Self {
            data: data.to_owned(),
            ..Self::default()
        })
    }

    fn folder(&self, volume: &str) -> PathBuf {
        self.data.join(volume.replace('/', "_"))
    }

    /// Serves each connection on a thread of its own, until the plugin is gone.
    fn accept<S: Read + Write + Send + 'static>(
        self: Arc<Self>,
        connections: impl Iterator<Item = io::Result<S>>,
        clone: fn(&S) -> io::Result<S>,
    ) {
        for stream in connections.flatten() {
            let shared = Arc::clone(&self);
            if shared.state.lock().unwrap().gone {
                return;
            }
            std::thread::spawn(move || {
                let reader = clone(&stream).unwrap();
                shared.serve(reader, stream);
            });
        }
    }

    fn serve(&self, reader: impl Read, mut writer: impl Write) {
        let Some((request, body)) = read_request(reader) else {
            return;
        };
        let (status, answer) = match self.misbehave(&request, &body, &mut writer) {
            Some(Mood::Status(status, text)) => (status, text.to_owned()),
            Some(Mood::Babble(text)) => {
                self.perform(&request, &body);
                (200, text.to_owned())
            }
            Some(Mood::Refuse(words)) => (200, json!({ "Err": words }).to_string()),
            Some(Mood::Hang | Mood::Flood) => return,
            Some(Mood::Late) | None => (200, self.perform(&request, &body).to_string()),
        };
        let head = format!(
            "HTTP/1.1 {status} Said\r\nContent-Type: application/vnd.docker.plugins.v1.2+json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let _ = writer.write_all(head.as_bytes());
        let _ = writer.write_all(answer.as_bytes());
    }

    /// Notes the call; what it is answered with instead of properly.
    fn misbehave(&self, request: &str, body: &Value, writer: &mut impl Write) -> Option<Mood> {
        let mut state = self.state.lock().unwrap();
        let what = request.trim_start_matches("VolumeDriver.");
        let name = body["Name"].as_str().unwrap_or_default();
        state.calls.push(format!("{what} {name}").trim().to_owned());
        let mood = |state: &State| state.moods.get(request).or_else(|| state.moods.get("*")).cloned();
        let found = mood(&state)?;
        match found {
            Mood::Hang | Mood::Late => {
                while !state.gone && matches!(mood(&state), Some(Mood::Hang | Mood::Late)) {
                    state = self.changed.wait(state).unwrap();
                }
            }
            Mood::Flood => {
                drop(state);
                let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let piece = format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16));
                while writer.write_all(piece.as_bytes()).is_ok() {}
            }
            _ => {}
        }
        Some(found)
    }

    fn perform(&self, request: &str, body: &Value) -> Value {
        let mut state = self.state.lock().unwrap();
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let id = body["ID"].as_str().unwrap_or_default().to_owned();
        let folder = self.folder(&name);
        if ![
            "Plugin.Activate",
            "VolumeDriver.Create",
            "VolumeDriver.List",
            "VolumeDriver.Capabilities",
        ]
        .contains(&request)
            && !state.volumes.contains_key(&name)
        {
            return json!({ "Err": format!("there is no {name}") });
        }
        let key = (name.clone(), id);
        let is_mounted = state.mounted.iter().any(|(volume, _)| *volume == name);
        let place = if is_mounted {
            folder.to_string_lossy().into_owned()
        } else {
            String::new()
        };
        let told = |name: &str, place: &str| json!({ "Name": name, "Mountpoint": place, "CreatedAt": "2024-05-06T07:08:09Z", "Status": { "shelf": 7 } });
        match request {
            "Plugin.Activate" => json!({ "Implements": ["VolumeDriver"] }),
            "VolumeDriver.Create" => {
                std::fs::create_dir_all(folder).unwrap();
                if state.volumes.insert(name.clone(), body["Opts"].clone()).is_some() {
                    state.faults.push(format!("second create of {name}"));
                }
                json!({ "Err": "" })
            }
            "VolumeDriver.Remove" if is_mounted => json!({ "Err": format!("{name} is mounted") }),
            "VolumeDriver.Remove" => {
                state.volumes.remove(&name);
                let _ = std::fs::remove_dir_all(folder);
                json!({})
            }
            "VolumeDriver.Mount" => {
                if !state.mounted.insert(key) {
                    state.faults.push(format!("second mount of {name} by one id"));
                }
                json!({ "Mountpoint": folder.to_string_lossy() })
            }
            "VolumeDriver.Unmount" => {
                if !state.mounted.remove(&key) {
                    state
                        .faults
                        .push(format!("unmount of {name}, which is not mounted by this id"));
                }
                json!({})
            }
            "VolumeDriver.Path" => json!({ "Mountpoint": place }),
            "VolumeDriver.Get" => json!({ "Volume": told(&name, &place) }),
            "VolumeDriver.List" => {
                let all: Vec<Value> = state.volumes.keys().map(|name| told(name, "")).collect();
                json!({ "Volumes": all })
            }
            "VolumeDriver.Capabilities" => json!({ "Capabilities": { "Scope": "Global" } }),
            other => json!({ "Err": format!("{other} is not known here") }),
        }
    }
}

fn read_request(reader: impl Read) -> Option<(String, Value)> {
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let request = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let (key, value) = header.split_once(':')?;
        if key.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((request, serde_json::from_slice(&body).unwrap_or_default()))
}

/// How long a request of the tests' engines to a plugin may take.
pub(crate) const PLUGIN_SECONDS: u64 = 2;

/// The configuration of an engine with plugins of its own.
pub(crate) fn configuration() -> String {
    format!("plugin-dirs = [\"{{dir}}/plugins\"]\nplugin-seconds = {PLUGIN_SECONDS}\n")
}

/// Longer than any deadline of these tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);
