//! Pull and push against Debian's docker-registry, and against servers that misbehave.
#![allow(clippy::unwrap_used)]

mod server;

use server::{Answer, Server};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wharf_registry::{
    Client, Credentials, LayerState, Options, Progress, PullRequest, Pulled, PushRequest, RegistryError,
    RegistryErrorKind,
};
use wharf_store::{Digest, GcScope, ImageConfig, NewImage, Reference, Store};
use wharf_testkit::Registry;

type News = Arc<Mutex<Vec<Progress>>>;

struct Side {
    store: Store,
    client: Client,
    news: News,
    _dir: tempfile::TempDir,
}

impl Side {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            retry_pause: Duration::from_millis(5),
            ..Options::default()
        };
        Self {
            store: Store::open(dir.path()).unwrap(),
            client: Client::new(options).unwrap(),
            news: News::default(),
            _dir: dir,
        }
    }

    fn sink(&self) -> wharf_registry::Sink {
        let news = self.news.clone();
        Arc::new(move |n| news.lock().unwrap().push(n))
    }

    fn states(&self) -> Vec<LayerState> {
        let news = self.news.lock().unwrap();
        news.iter()
            .filter_map(|n| {
                if let Progress::Layer { state, .. } = n {
                    Some(state.clone())
                } else {
                    None
                }
            })
            .collect()
    }

    async fn pull(&self, name: &str) -> Result<Pulled, RegistryError> {
        self.pull_as(name, Credentials::default()).await
    }

    async fn pull_as(&self, name: &str, credentials: Credentials) -> Result<Pulled, RegistryError> {
        let reference = Reference::parse(name).unwrap();
        self.client
            .pull(PullRequest {
                store: &self.store,
                reference: &reference,
                platform: None,
                credentials,
                sink: self.sink(),
            })
            .await
    }

    /// An image of two layers of incompressible bytes under `name`.
    fn make_image(&self, name: &str) -> Arc<wharf_store::Image> {
        let lease = self.store.lease("test", Duration::from_secs(60)).unwrap();
        let layer = |path: &str, seed: u64| {
            self.store
                .import_layer(&lease, &mut &tar_of(path, &noise(seed, 600_000))[..])
                .unwrap()
        };
        let layers = [layer("one", 7), layer("two", 11)];
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        let name = Reference::parse(name).unwrap();
        self.store
            .create_image(
                &lease,
                NewImage {
                    config,
                    layers: &layers,
                    name: Some(&name),
                    parent: None,
                },
            )
            .unwrap()
    }

    async fn push(&self, name: &str, image: Arc<wharf_store::Image>) -> Result<wharf_registry::Pushed, RegistryError> {
        let reference = Reference::parse(name).unwrap();
        let request = PushRequest {
            store: &self.store,
            image,
            reference: &reference,
            credentials: Credentials::default(),
            sink: self.sink(),
        };
        self.client.push(request).await
    }
}

fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(length)
    .collect()
}

fn tar_of(path: &str, data: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join(path))
        .unwrap()
        .write_all(data)
        .unwrap();
    let tar = dir.path().with_extension("tar");
    wharf_testkit::image::pack(dir.path(), &tar).unwrap();
    let bytes = std::fs::read(&tar).unwrap();
    std::fs::remove_file(&tar).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_comes_back_identical() {
    let registry = Registry::start();
    let name = format!("{}/a/b:1", registry.address());
    let from = Side::new();
    let image = from.make_image(&name);
    let pushed = from.push(&name, image.clone()).await.unwrap();
    assert_eq!(pushed.digest, image.id);
    assert_eq!(from.states().iter().filter(|s| **s == LayerState::Pushed).count(), 2);

    let to = Side::new();
    let pulled = to.pull(&name).await.unwrap();
    assert_eq!((pulled.digest.clone(), pulled.is_newer), (image.id.clone(), true));
    let platform = pulled.image.platform(None).unwrap();
    for (dir, file) in to.store.lower_dirs(platform).unwrap().iter().zip(["two", "one"]) {
        assert_eq!(std::fs::metadata(dir.join(file)).unwrap().len(), 600_000);
    }
    assert!(!to.pull(&name).await.unwrap().is_newer);
    assert_eq!(
        to.states().iter().filter(|s| **s == LayerState::AlreadyExists).count(),
        2
    );

    to.push(&name, pulled.image.clone()).await.unwrap();
    assert_eq!(
        to.states()
            .iter()
            .filter(|s| **s == LayerState::LayerAlreadyExists)
            .count(),
        2
    );
    let sibling = format!("{}/other:1", registry.address());
    to.push(&sibling, to.store.resolve(&name).unwrap()).await.unwrap();
    assert!(
        to.states().contains(&LayerState::MountedFrom("a/b".to_owned())),
        "{:?}",
        to.states()
    );
    let tags = to
        .client
        .tags(&Reference::parse(&sibling).unwrap(), &Credentials::default())
        .await
        .unwrap();
    assert_eq!(tags, ["1"]);
    let by_digest = format!("{}/a/b@{}", registry.address(), image.id);
    assert_eq!(Side::new().pull(&by_digest).await.unwrap().digest, image.id);
}

/// The exchange above again, where no certificates of authorities are to be found.
#[test]
fn a_machine_that_can_verify_no_server_still_uses_the_registries_it_need_not_verify() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_is_pushed_comes_back_identical"])
        .env("SSL_CERT_FILE", "/does/not/exist")
        .env("SSL_CERT_DIR", "/does/not/exist")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_is_not_found_and_nobody_listening_is_unavailable() {
    let registry = Registry::start();
    let side = Side::new();
    let missing = side
        .pull(&format!("{}/nothing:1", registry.address()))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), RegistryErrorKind::NotFound);
    assert!(missing.to_string().ends_with(": not found"), "{missing}");
    let refused = side.pull("127.0.0.1:1/x:1").await.unwrap_err();
    assert_eq!(refused.kind(), RegistryErrorKind::Unavailable);
    assert!(refused.to_string().contains("connection refused"), "{refused}");
}

/// A server that holds one image made by `make_image`, and answers as `twist` says.
async fn serving(twist: impl Fn(&server::Request, &mut Answer) + Send + Sync + 'static) -> (Server, Digest) {
    let made = Side::new();
    let image = made.make_image("127.0.0.1:1/x:1");
    let id = image.id.clone();
    let store = made.store.clone();
    let server = Server::start(move |request| {
        let _keep = &made;
        let mut answer = content(&store, &id, request);
        twist(request, &mut answer);
        answer
    });
    (server, image.id.clone())
}

fn content(store: &Store, id: &Digest, request: &server::Request) -> Answer {
    let last = request.path.rsplit('/').next().unwrap_or_default();
    if request.path == "/v2/" {
        return Answer::ok(b"{}".to_vec());
    }
    let is_manifest = request.path.contains("/manifests/");
    let Some(digest) = (if is_manifest {
        Some(id.clone())
    } else {
        Digest::parse(last).ok()
    }) else {
        return Answer::status("404 Not Found");
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut store.open_blob(&digest).unwrap(), &mut bytes).unwrap();
    let mut answer = Answer::ok(bytes);
    if is_manifest {
        answer.headers.push((
            "Content-Type".into(),
            store.image(id).unwrap().target.media_type.clone(),
        ));
    }
    answer
}

fn is_layer(answer: &Answer) -> bool {
    answer.body.len() > 100_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_is_refused_and_leaves_no_image() {
    let (server, _) = serving(|_, answer| {
        if is_layer(answer) {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 0xff;
        }
    })
    .await;
    let side = Side::new();
    let error = side.pull(&format!("{}/x:1", server.address())).await.unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::Invalid, "{error}");
    assert!(side.store.images().unwrap().is_empty());
    side.store.gc(GcScope::Everything).unwrap();
    assert_eq!(side.store.disk_usage().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_is_resumed_where_it_stopped() {
    let ranges: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = ranges.clone();
    let (server, id) = serving(move |request, answer| {
        if !is_layer(answer) {
            return;
        }
        match request.header("range") {
            Some(range) => {
                seen.lock().unwrap().push(range.to_owned());
                let from: usize = range
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .unwrap();
                let total = answer.body.len();
                answer.status = "206 Partial Content";
                answer
                    .headers
                    .push(("Content-Range".into(), format!("bytes {from}-{}/{total}", total - 1)));
                answer.body.drain(..from);
            }
            None => answer.cut = Some(answer.body.len() / 2),
        }
    })
    .await;
    let side = Side::new();
    let pulled = side.pull(&format!("{}/x:1", server.address())).await.unwrap();
    assert_eq!(pulled.digest, id);
    let ranges = ranges.lock().unwrap();
    assert!(
        ranges.len() >= 2 && ranges.iter().all(|r| r != "bytes=0-"),
        "{ranges:?}"
    );
    assert!(side.states().iter().any(|s| matches!(s, LayerState::Retrying { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_never_comes_whole_fails_after_its_attempts() {
    let (server, _) = serving(|request, answer| {
        if is_layer(answer) {
            answer.cut = Some(if request.header("range").is_some() { 0 } else { 1000 });
        }
    })
    .await;
    let side = Side::new();
    side.pull(&format!("{}/x:1", server.address())).await.unwrap_err();
    assert!(side.store.images().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_with_the_credentials_and_used() {
    let address: Arc<Mutex<String>> = Arc::default();
    let told = address.clone();
    let (server, id) = serving(move |request, answer| {
        if request.path.starts_with("/token") {
            let known = request.header("authorization") == Some("Basic bWU6c2VjcmV0"); // me:secret
            *answer = if known && request.path.contains("repository%3Ax%3Apull") {
                Answer::ok(br#"{"token":"good"}"#.to_vec())
            } else {
                Answer::status("401 Unauthorized")
            };
        } else if request.header("authorization") != Some("Bearer good") {
            *answer = Answer::status("401 Unauthorized");
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", told.lock().unwrap());
            answer.headers.push(("WWW-Authenticate".into(), realm));
        }
    })
    .await;
    *address.lock().unwrap() = server.address().to_owned();
    let name = format!("{}/x:1", server.address());
    let side = Side::new();
    let anonymous = side.pull(&name).await.unwrap_err();
    assert_eq!(anonymous.kind(), RegistryErrorKind::Unauthorized, "{anonymous}");
    let me = Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    };
    assert_eq!(side.pull_as(&name, me.clone()).await.unwrap().digest, id);
    let wrong = Credentials {
        password: "wrong".into(),
        ..me
    };
    assert_eq!(
        side.client.login(server.address(), &wrong).await.unwrap_err().kind(),
        RegistryErrorKind::Unauthorized
    );
}

#[tokio::test]
async fn a_plain_file_is_fetched_or_its_failure_named() {
    let server = Server::start(|request| match request.path.as_str() {
        "/d/f.txt" | "/d/f.txt?x=1" => Answer {
            headers: vec![("Last-Modified".into(), "Wed, 21 Oct 2015 07:28:00 GMT".into())],
            ..Answer::ok(b"hello".to_vec())
        },
        "/cut" => Answer {
            cut: Some(2),
            ..Answer::ok(b"hello".to_vec())
        },
        _ => Answer::status("404 Not Found"),
    });
    let client = Client::new(Options::default()).unwrap();
    let at = |path: &str| format!("http://{}{path}", server.address());
    let mut bytes = Vec::new();
    let mut keep = |chunk: &[u8]| bytes.write_all(chunk);
    let fetched = client.fetch(&at("/d/f.txt?x=1"), &mut keep).await;
    let missing = client.fetch(&at("/none"), &mut keep).await.unwrap_err();
    let cut = client.fetch(&at("/cut"), &mut |_| Ok(())).await.unwrap_err();
    let full = client
        .fetch(&at("/d/f.txt"), &mut |_| Err(std::io::ErrorKind::StorageFull.into()))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), RegistryErrorKind::Invalid);
    assert!(
        missing.to_string().contains("unexpected status 404: Not Found"),
        "{missing}"
    );
    assert_eq!(cut.kind(), RegistryErrorKind::Unavailable);
    assert_eq!(full.kind(), RegistryErrorKind::Internal);
    let fetched = fetched.unwrap();
    assert_eq!(fetched.file_name.as_deref(), Some("f.txt"));
    assert_eq!(fetched.last_modified.as_deref(), Some("Wed, 21 Oct 2015 07:28:00 GMT"));
    assert_eq!((fetched.size, bytes.as_slice()), (5, &b"hello"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_engine_resumes_a_pull_that_the_last_one_left() {
    let ranges: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = ranges.clone();
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    // The failure of one layer may end the other before it has a byte, so the second
    // pull is served whole whatever it asks for.
    let (server, id) = serving(move |request, answer| {
        if breaks.load(Ordering::SeqCst) {
            answer.cut = is_layer(answer).then_some(answer.body.len() / 2);
            return;
        }
        let Some(range) = request.header("range").filter(|_| is_layer(answer)) else {
            return;
        };
        let from: usize = range.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        seen.lock().unwrap().push(from);
        answer.status = "206 Partial Content";
        answer.body.drain(..from);
    })
    .await;
    let name = format!("{}/x:1", server.address());
    let mut side = Side::new();
    let once = Options {
        attempts: 1,
        ..Options::default()
    };
    side.client = Client::new(once).unwrap();
    side.pull(&name).await.unwrap_err();
    assert!(ranges.lock().unwrap().is_empty());
    broken.store(false, Ordering::SeqCst);
    side.store = Store::open(side._dir.path()).unwrap();
    assert_eq!(side.pull(&name).await.unwrap().digest, id);
    let ranges = ranges.lock().unwrap();
    assert!(!ranges.is_empty() && ranges.iter().all(|from| *from > 0), "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_are_sent_when_asked_for() {
    let (server, id) = serving(|request, answer| {
        if request.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            *answer = Answer::status("401 Unauthorized");
            answer
                .headers
                .push(("WWW-Authenticate".into(), "Basic realm=\"r\"".into()));
        }
    })
    .await;
    let name = format!("{}/x:1", server.address());
    let side = Side::new();
    let anonymous = side.pull(&name).await.unwrap_err();
    assert_eq!(anonymous.kind(), RegistryErrorKind::Unauthorized, "{anonymous}");
    let me = Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    };
    assert_eq!(side.pull_as(&name, me).await.unwrap().digest, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_is_chosen_from_a_manifest_list() {
    let list: Arc<Mutex<Vec<u8>>> = Arc::default();
    let served = list.clone();
    let (server, id) = serving(move |request, answer| {
        if request.path.ends_with("/manifests/1") {
            *answer = Answer::ok(served.lock().unwrap().clone());
            let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
            answer.headers.push(("Content-Type".into(), kind.into()));
        }
    })
    .await;
    let entry = |digest: &Digest, architecture: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":2,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            wharf_store::media::OCI_MANIFEST
        )
    };
    let host = wharf_store::Platform::host().architecture;
    let entries = [entry(&Digest::of(b"other"), "s390x"), entry(&id, &host)].join(",");
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
    *list.lock().unwrap() = text.clone().into_bytes();
    let side = Side::new();
    let name = format!("{}/x:1", server.address());
    let pulled = side.pull(&name).await.unwrap();
    assert_eq!(pulled.digest, Digest::of(text.as_bytes()));
    assert_eq!(pulled.image.platforms.len(), 1);
    assert_eq!(pulled.image.platforms[0].manifest_descriptor.digest, id);
    let reference = Reference::parse(&name).unwrap();
    let request = PullRequest {
        store: &side.store,
        reference: &reference,
        platform: Some(wharf_store::Platform::new("linux", "riscv64", None)),
        credentials: Credentials::default(),
        sink: side.sink(),
    };
    let error = side.client.pull(request).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoPlatform { .. }), "{error}");
}
