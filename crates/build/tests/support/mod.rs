//! A build in a sandbox: its own store, a base image made of busybox, a runner that needs no
//! engine. Everything is below one temporary directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use wharf_build::{
    BaseImageError, BaseImages, BuildError, BuildRequest, Cancel, Downloaded, ErrorKind, Event, Events, ImageRequest,
    OutputStream, RunError, RunExit, RunMount, RunStep, Runner, Services,
};
use wharf_store::{Digest, ImageConfig, NewImage, Platform, Reference, Store};

/// A store with the image `busybox`, and a context directory.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) context: PathBuf,
}

/// What a build said and made.
pub(crate) struct Outcome {
    pub(crate) result: Result<String, BuildError>,
    pub(crate) text: String,
    pub(crate) events: Vec<Event>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        let context = dir.path().join("context");
        fs::create_dir(&context).unwrap();
        let sandbox = Self { dir, store, context };
        sandbox.import_busybox();
        sandbox
    }

    /// Makes the image from the machine's static busybox.
    fn import_busybox(&self) {
        let tree = self.dir.path().join("busybox");
        for name in ["bin", "etc", "tmp", "proc", "dev", "usr/lib"] {
            fs::create_dir_all(tree.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "echo", "ls", "rm", "mkdir", "stat", "ln", "touch", "date", "id", "test", "find", "sort",
        ] {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).unwrap();
        }
        std::os::unix::fs::symlink("usr/lib", tree.join("lib")).unwrap();
        fs::write(
            tree.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nwww:x:33:44::/:/bin/sh\n",
        )
        .unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:\nwww:x:55:\nstaff:x:50:\n").unwrap();
        let tar = self.dir.path().join("busybox.tar");
        let status = Command::new("tar")
            .arg("cf")
            .arg(&tar)
            .arg("-C")
            .arg(&tree)
            .arg(".")
            .status()
            .unwrap();
        assert!(status.success());
        let lease = self.store.lease("test", Duration::from_secs(60)).unwrap();
        let layer = self
            .store
            .import_layer(&lease, &mut fs::File::open(&tar).unwrap())
            .unwrap();
        let platform = Platform::host();
        let config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            ..ImageConfig::default()
        };
        let name = Reference::parse("busybox").unwrap().tagged();
        let layers = [layer];
        let image = NewImage {
            config,
            layers: &layers,
            name: Some(&name),
            parent: None,
        };
        self.store.create_image(&lease, image).unwrap();
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            context: self.context.clone(),
            dockerfile_text: Some(dockerfile.into()),
            ..BuildRequest::default()
        }
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Outcome {
        self.build_request(&self.request(dockerfile))
    }

    pub(crate) fn build_request(&self, request: &BuildRequest) -> Outcome {
        let events = Mutex::new(Vec::new());
        let record = |event: Event| events.lock().unwrap().push(event);
        let record: &dyn Events = &record;
        let images = LocalImages { store: &self.store };
        let result = wharf_build::build(
            request,
            Services {
                store: &self.store,
                runner: &Chroot,
                images: &images,
                events: record,
            },
        );
        let events = events.into_inner().unwrap();
        let mut classic = wharf_build::classic::Classic::new(false);
        let messages = events.iter().cloned().flat_map(|event| classic.event(event));
        let text = messages
            .map(|message| match message {
                wharf_build::classic::Message::Stream(text) => text,
                _ => String::new(),
            })
            .collect();
        Outcome { result, text, events }
    }

    /// Every path of an image with what it is: `mode uid:gid content`, merged over all layers.
    pub(crate) fn files(&self, image: &str) -> BTreeMap<String, String> {
        let image = self.store.resolve(image).unwrap();
        let content = image.platform(None).unwrap();
        let mut files = BTreeMap::new();
        for dir in self.store.lower_dirs(content).unwrap().iter().rev() {
            merge(dir, Path::new(""), &mut files);
        }
        files
    }

    /// The files without those of busybox.
    pub(crate) fn new_files(&self, image: &str) -> BTreeMap<String, String> {
        let base = self.files("busybox");
        let mut files = self.files(image);
        files.retain(|path, what| base.get(path) != Some(what));
        files
    }

    pub(crate) fn config(&self, image: &str) -> ImageConfig {
        let image = self.store.resolve(image).unwrap();
        image.platform(None).unwrap().config.clone()
    }

    /// Number of layers.
    pub(crate) fn layers(&self, image: &str) -> usize {
        self.store.resolve(image).unwrap().platform(None).unwrap().layers.len()
    }

    /// What builds left behind in their working directory.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.store.root().join("build-work"));
        entries
            .map(|e| e.flatten().map(|e| e.path()).collect())
            .unwrap_or_default()
    }
}

/// Applies one layer directory in overlay's form.
fn merge(dir: &Path, at: &Path, files: &mut BTreeMap<String, String>) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut entries: Vec<_> = fs::read_dir(dir.join(at)).unwrap().flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = at.join(entry.file_name());
        let key = format!("/{}", path.display());
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let below = format!("{key}/");
        let hide = |files: &mut BTreeMap<String, String>| files.retain(|p, _| *p != key && !p.starts_with(&below));
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            hide(files);
            continue;
        }
        let what = match meta.file_type() {
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(entry.path()).unwrap().display()),
            kind if kind.is_dir() => "dir".into(),
            _ => String::from_utf8_lossy(&fs::read(entry.path()).unwrap())
                .trim_end()
                .chars()
                .take(60)
                .collect(),
        };
        if !meta.is_dir() || is_opaque(&entry.path()) {
            hide(files);
        }
        files.insert(
            key,
            format!("{:o} {}:{} {what}", meta.mode() & 0o7777, meta.uid(), meta.gid()),
        );
        if meta.is_dir() {
            merge(dir, &path, files);
        }
    }
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|n| n == 1 && value[0] == b'y')
}

/// Finds images in the store alone.
struct LocalImages<'a> {
    store: &'a Store,
}

impl BaseImages for LocalImages<'_> {
    fn provide(&self, request: &ImageRequest<'_>, _: &dyn Events) -> Result<String, BaseImageError> {
        let image = self.store.resolve(request.reference).map_err(|error| BaseImageError {
            kind: ErrorKind::NotFound,
            message: format!("pull access denied for {}", request.reference),
            source: Some(Box::new(error)),
        })?;
        request.lease.protect(&image.id).unwrap();
        Ok(image.id.to_string())
    }

    /// The address is the content.
    fn download(&self, address: &str, to: &mut fs::File, _: &Cancel) -> Result<Downloaded, BaseImageError> {
        to.write_all(address.as_bytes()).unwrap();
        Ok(Downloaded {
            last_modified: Some(std::time::UNIX_EPOCH + Duration::from_secs(1000)),
            file_name: None,
        })
    }
}

/// Runs steps in a mount namespace of their own.
pub(crate) struct Chroot;

impl Runner for Chroot {
    fn run(&self, step: &RunStep, output: &mut dyn FnMut(OutputStream, &[u8])) -> Result<RunExit, RunError> {
        let mut script = String::from("set -e\n");
        let root = step.work.parent().unwrap().join("mnt");
        let lower: Vec<String> = step.lower.iter().map(|p| p.display().to_string()).collect();
        let upper = step.upper.display().to_string();
        fs::create_dir_all(&root).unwrap();
        let root_text = root.display();
        match lower.is_empty() {
            true => script += &format!("mount --bind {upper} {root_text}\n"),
            false => {
                script += &format!(
                    "mount -t overlay overlay -o lowerdir={},upperdir={upper},workdir={} {root_text}\n",
                    lower.join(":"),
                    step.work.display()
                )
            }
        }
        for mount in &step.mounts {
            script += &mount_line(mount, &root);
        }
        let argv: Vec<String> = step.argv.iter().map(|word| quote(word)).collect();
        script += &format!(
            "exec chroot {root_text} /bin/busybox sh -c 'cd \"$0\" && exec \"$@\"' {} {}\n",
            quote(&step.cwd),
            argv.join(" ")
        );
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::null())
            .env_clear();
        for entry in &step.env {
            let (name, value) = entry.split_once('=').unwrap();
            command.env(name, value);
        }
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert!(
            step.env.iter().any(|e| e.starts_with("PATH=")),
            "{path} is always there"
        );
        let done = command.output().unwrap();
        for (stream, data) in [
            (OutputStream::Stdout, &done.stdout),
            (OutputStream::Stderr, &done.stderr),
        ] {
            if !data.is_empty() {
                output(stream, data);
            }
        }
        Ok(RunExit {
            code: done.status.code().unwrap_or(137).into(),
            oom_killed: false,
        })
    }
}

fn mount_line(mount: &RunMount, root: &Path) -> String {
    let root = root.display();
    match mount {
        RunMount::Bind { source, target, .. } if source.is_file() => format!(
            "mkdir -p $(dirname {root}{target}); touch {root}{target}; mount --bind {} {root}{target}\n",
            source.display()
        ),
        RunMount::Bind { source, target, .. } => {
            format!(
                "mkdir -p {root}{target}; mount --bind {} {root}{target}\n",
                source.display()
            )
        }
        RunMount::Tmpfs { target, .. } => {
            format!("mkdir -p {root}{target}; mount -t tmpfs tmpfs {root}{target}\n")
        }
    }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The digest of an outcome that must have succeeded.
impl Outcome {
    pub(crate) fn image(&self) -> String {
        match &self.result {
            Ok(id) => {
                Digest::parse(id).unwrap();
                id.clone()
            }
            Err(error) => panic!("{error:?}\n{}", self.text),
        }
    }

    pub(crate) fn error(&self) -> String {
        self.result.as_ref().expect_err("must fail").to_string()
    }

    /// How many steps came from the cache.
    pub(crate) fn hits(&self) -> usize {
        self.events.iter().filter(|event| **event == Event::CacheHit).count()
    }
}
