//! Where `cp` puts what, by the rules of Docker's: pure functions of what both ends are.

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The path as it was given, a slash or `/.` at its end kept.
    pub(crate) path: String,
    /// Whether there is something.
    pub(crate) exists: bool,
    /// Whether it is a directory.
    pub(crate) is_dir: bool,
}

/// Where an archive is to be extracted, and how its entries are to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The directory to extract in.
    pub(crate) dir: String,
    /// The first component of the entries, and what to call it; `None` leaves the names.
    pub(crate) rename: Option<(String, String)>,
}

/// Why a copy makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    /// A directory onto a file.
    #[error("cannot copy directory")]
    DirectoryOntoFile,
    /// A file into a directory that is not there.
    #[error("no such directory")]
    NoSuchDirectory,
}

/// Decides where the archive of `source` goes for the destination `to`.
pub(crate) fn plan(source: &End, to: &End) -> Result<Plan, CopyError> {
    if to.exists && to.is_dir {
        return Ok(Plan {
            dir: to.path.clone(),
            rename: None,
        });
    }
    if to.exists && source.is_dir {
        return Err(CopyError::DirectoryOntoFile);
    }
    if !to.exists && !source.is_dir && asserts_directory(&to.path) {
        return Err(CopyError::NoSuchDirectory);
    }
    let (dir, name) = split(&to.path);
    let (_, source_name) = split(&source.path);
    Ok(Plan {
        dir,
        rename: Some((source_name, name)),
    })
}

/// True for a path that can only be a directory: it ends in a slash or in `/.`.
pub(crate) fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || ends_in_dot(path)
}

fn ends_in_dot(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// Directory and name, of the cleaned path; a path that ends in `/.` has the name `.`.
pub(crate) fn split(path: &str) -> (String, String) {
    let cleaned = clean(path);
    if ends_in_dot(path) {
        return (cleaned, ".".to_owned());
    }
    match cleaned.rsplit_once('/') {
        _ if cleaned == "/" => ("/".to_owned(), "/".to_owned()),
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((dir, name)) => (dir.to_owned(), name.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// The path without `.`, doubled slashes, and `..` where it has a parent.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The name of an entry under the plan.
pub(crate) fn renamed(name: &str, rename: Option<&(String, String)>) -> String {
    let Some((old, new)) = rename else {
        return name.to_owned();
    };
    let old = if old == "/" { "" } else { old.as_str() };
    match name.strip_prefix(old) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{new}{rest}"),
        Some(rest) if old.is_empty() => format!("{new}/{rest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(path: &str, exists: bool, is_dir: bool) -> End {
        End {
            path: path.to_owned(),
            exists,
            is_dir,
        }
    }

    #[test]
    fn the_destination_decides() {
        let file = end("/a/f", true, false);
        let dir = end("/a/d", true, true);
        let contents = end("/a/d/.", true, true);
        type Expected = Result<(&'static str, Option<(&'static str, &'static str)>), CopyError>;
        let check = |source: &End, to: End, expected: Expected| {
            let found = plan(source, &to);
            let expected = expected.map(|(dir, rename)| Plan {
                dir: dir.to_owned(),
                rename: rename.map(|(a, b)| (a.to_owned(), b.to_owned())),
            });
            assert_eq!(found, expected, "{source:?} {to:?}");
        };
        check(&file, end("/x", true, true), Ok(("/x", None)));
        check(&file, end("/x/y", true, false), Ok(("/x", Some(("f", "y")))));
        check(&file, end("/x/new", false, false), Ok(("/x", Some(("f", "new")))));
        check(&file, end("/x/new/", false, false), Err(CopyError::NoSuchDirectory));
        check(&dir, end("/x", true, true), Ok(("/x", None)));
        check(&dir, end("/x/new", false, false), Ok(("/x", Some(("d", "new")))));
        check(&dir, end("/x/f", true, false), Err(CopyError::DirectoryOntoFile));
        check(&contents, end("/x/new", false, false), Ok(("/x", Some((".", "new")))));
        check(&contents, end("/x", true, true), Ok(("/x", None)));
    }

    #[test]
    fn entries_are_renamed_at_their_first_component() {
        let rename = Some(("d".to_owned(), "new".to_owned()));
        let check = |name: &str, expected: &str| assert_eq!(renamed(name, rename.as_ref()), expected);
        check("d", "new");
        check("d/x", "new/x");
        check("dd/x", "dd/x");
        let dot = Some((".".to_owned(), "new".to_owned()));
        assert_eq!(renamed("./x", dot.as_ref()), "new/x");
        assert_eq!(renamed("x", None), "x");
    }

    #[test]
    fn paths_are_split_as_docker_splits_them() {
        let check = |path: &str, dir: &str, name: &str| {
            assert_eq!(split(path), (dir.to_owned(), name.to_owned()), "{path}");
        };
        check("/a/b", "/a", "b");
        check("/a/b/", "/a", "b");
        check("/a/b/.", "/a/b", ".");
        check("a", ".", "a");
        check("/", "/", "/");
        check("a/../b/c", "b", "c");
    }
}
