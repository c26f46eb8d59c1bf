//! The context of a build: a directory packed into a tar archive, an archive or a Dockerfile from
//! standard input, or an address that the engine fetches itself.

mod ignore;

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use wharf_api::client::Body;

use crate::archive;
use crate::error::CliError;
use crate::upload;
pub(crate) use ignore::Ignore;

/// The name of a Dockerfile unless another one is said.
const DOCKERFILE: &str = "Dockerfile";

/// The name in the context of a Dockerfile that lies outside of it.
const FOREIGN_DOCKERFILE: &str = ".dockerfile.from-outside";

/// What is built, ready to be sent.
#[derive(Debug)]
pub(crate) struct Context {
    /// The Dockerfile's path in the context.
    pub(crate) dockerfile: String,
    /// An address that the engine fetches.
    pub(crate) remote: String,
    /// The archive, none with a remote.
    pub(crate) body: Option<Body>,
}

/// What was said about the context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// `PATH`, `URL` or `-`.
    pub(crate) source: &'a str,
    /// `--file`.
    pub(crate) dockerfile: &'a str,
    /// `--compress`.
    pub(crate) compress: bool,
}

/// Prepares the context. Everything that can be checked is checked before anything is sent.
pub(crate) fn prepare(wanted: Wanted<'_>) -> Result<Context, CliError> {
    match wanted.source {
        "-" if wanted.dockerfile == "-" => Err(CliError::message(
            "invalid argument: can't use stdin for both build context and dockerfile",
        )),
        "-" => from_stdin(wanted),
        source if is_remote(source) => Ok(Context {
            dockerfile: or_default(wanted.dockerfile),
            remote: source.to_owned(),
            body: None,
        }),
        _ => from_directory(wanted),
    }
}

fn or_default(dockerfile: &str) -> String {
    if dockerfile.is_empty() {
        DOCKERFILE.to_owned()
    } else {
        dockerfile.to_owned()
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "github.com/", "git@"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
        && !Path::new(source).exists()
}

/// An archive as it is, or a Dockerfile without any context.
fn from_stdin(wanted: Wanted<'_>) -> Result<Context, CliError> {
    let mut stdin = io::stdin();
    let mut head = vec![0u8; 512];
    let mut filled = 0;
    while filled < head.len() {
        match stdin
            .read(&mut head[filled..])
            .map_err(CliError::io("reading the context"))?
        {
            0 => break,
            count => filled += count,
        }
    }
    head.truncate(filled);
    if is_archive(&head) {
        let body = upload::from_reader(Cursor::new(head).chain(stdin));
        return Ok(Context {
            dockerfile: or_default(wanted.dockerfile),
            remote: String::new(),
            body: Some(body),
        });
    }
    let mut text = head;
    stdin
        .read_to_end(&mut text)
        .map_err(CliError::io("reading the Dockerfile"))?;
    if text.is_empty() {
        return Err(CliError::message(
            "unable to prepare context: context and Dockerfile from stdin are empty",
        ));
    }
    let body = upload::from_writer(move |writer| {
        let mut builder = tar::Builder::new(writer);
        archive::append_bytes(&mut builder, DOCKERFILE, &text)?;
        builder.finish()
    });
    Ok(Context {
        dockerfile: DOCKERFILE.to_owned(),
        remote: String::new(),
        body: Some(body),
    })
}

/// Tar, or what gzip, bzip2, xz and zstd begin with.
fn is_archive(head: &[u8]) -> bool {
    let compressed: [&[u8]; 4] = [
        &[0x1f, 0x8b],
        b"BZh",
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    compressed.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}

fn from_directory(wanted: Wanted<'_>) -> Result<Context, CliError> {
    let unprepared = |reason: String| CliError::message(format!("unable to prepare context: {reason}"));
    let root =
        std::fs::canonicalize(wanted.source).map_err(|_| unprepared(format!("path {:?} not found", wanted.source)))?;
    if !root.is_dir() {
        return Err(unprepared(format!("context must be a directory: {}", root.display())));
    }
    let dockerfile = find_dockerfile(&root, wanted.dockerfile).map_err(unprepared)?;
    let name = dockerfile.name.clone();
    let ignore = Ignore::of_directory(&root, &name).map_err(unprepared)?;
    let compress = wanted.compress;
    let write = move |writer: &mut dyn Write| -> io::Result<()> {
        if compress {
            let mut encoder = GzEncoder::new(writer, Compression::fast());
            write_archive(&mut encoder, &root, &ignore, &dockerfile)?;
            return encoder.finish().map(drop);
        }
        write_archive(writer, &root, &ignore, &dockerfile)
    };
    Ok(Context {
        dockerfile: name,
        remote: String::new(),
        body: Some(upload::from_writer(write)),
    })
}

fn write_archive(writer: &mut dyn Write, root: &Path, ignore: &Ignore, dockerfile: &Dockerfile) -> io::Result<()> {
    let mut builder = tar::Builder::new(writer);
    archive::append_context(&mut builder, root, ignore)?;
    if let Some(text) = &dockerfile.foreign {
        archive::append_bytes(&mut builder, FOREIGN_DOCKERFILE, text)?;
    }
    builder.finish()
}

struct Dockerfile {
    /// Its path in the context.
    name: String,
    /// Its text when it comes from elsewhere.
    foreign: Option<Vec<u8>>,
}

/// The Dockerfile by its path from the working directory, as `--file` has it.
fn find_dockerfile(root: &Path, given: &str) -> Result<Dockerfile, String> {
    if given == "-" {
        let mut text = Vec::new();
        io::stdin()
            .read_to_end(&mut text)
            .map_err(|error| format!("reading the Dockerfile: {error}"))?;
        return Ok(Dockerfile {
            name: FOREIGN_DOCKERFILE.to_owned(),
            foreign: Some(text),
        });
    }
    let path = if given.is_empty() {
        default_dockerfile(root)
    } else {
        PathBuf::from(given)
    };
    let missing = |_| {
        format!(
            "unable to evaluate symlinks in Dockerfile path: lstat {}: no such file or directory",
            path.display()
        )
    };
    let found = std::fs::canonicalize(&path).map_err(missing)?;
    match found.strip_prefix(root) {
        Ok(relative) => Ok(Dockerfile {
            name: relative.to_string_lossy().into_owned(),
            foreign: None,
        }),
        Err(_) => {
            let mut text = Vec::new();
            File::open(&found)
                .and_then(|mut file| file.read_to_end(&mut text))
                .map_err(|error| format!("reading {}: {error}", found.display()))?;
            Ok(Dockerfile {
                name: FOREIGN_DOCKERFILE.to_owned(),
                foreign: Some(text),
            })
        }
    }
}

/// `Dockerfile`, or `dockerfile` where only that exists.
fn default_dockerfile(root: &Path) -> PathBuf {
    let lower = root.join("dockerfile");
    let upper = root.join(DOCKERFILE);
    if !upper.exists() && lower.exists() {
        lower
    } else {
        upper
    }
}
