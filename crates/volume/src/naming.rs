//! Names of volumes, and of the directories that hold their records.

use crate::VolumeError;

/// In front of the encoded name of a volume whose name is not one of a file. No name of a local volume begins so.
const ENCODED: char = '@';

/// The longest name of a file.
const MAX_FILE_NAME: usize = 255;

/// COMPAT: Docker's rule and texts for names of local volumes.
pub(crate) fn check_local(name: &str) -> Result<(), VolumeError> {
    if name.len() == 1 {
        let text = "volume name is too short, names should be at least two alphanumeric characters";
        return Err(VolumeError::Invalid(text.to_owned()));
    }
    if is_plain(name) {
        return Ok(());
    }
    Err(VolumeError::Invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// The directory of a volume's record. COMPAT: volumes of plugins may be called anything, `pool/name` for one.
pub(crate) fn directory_of(name: &str) -> Option<String> {
    let text = match is_plain(name) {
        true => name.to_owned(),
        false => format!("{ENCODED}{}", encode(name)),
    };
    (!name.is_empty() && text.len() <= MAX_FILE_NAME).then_some(text)
}

/// The volume of a record's directory; `None` for what is no record.
pub(crate) fn name_of(directory: &str) -> Option<String> {
    match directory.strip_prefix(ENCODED) {
        Some(encoded) => decode(encoded),
        None => is_plain(directory).then(|| directory.to_owned()),
    }
}

fn is_plain(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    name.len() <= MAX_FILE_NAME && starts_well && name.bytes().all(is_kept)
}

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

fn encode(name: &str) -> String {
    let encoded = name.bytes().map(|byte| match is_kept(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    });
    encoded.collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let code = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(code, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_directory_of_its_own_and_is_read_back() {
        for name in [
            "ab",
            "x",
            "pool/name",
            "a b",
            ".x",
            "-x",
            "@x",
            "a%2fb",
            "é",
            "../../etc",
            "a:b",
        ] {
            let directory = directory_of(name).expect(name);
            assert!(
                !directory.contains('/') && !directory.starts_with('.'),
                "{name}: {directory}"
            );
            assert_eq!(name_of(&directory).as_deref(), Some(name));
        }
        assert_ne!(directory_of("@ab"), directory_of("ab"));
        assert_eq!(directory_of(""), None);
        assert_eq!(directory_of(&"/".repeat(100)), None);
        for none in [".new-1", "@%zz", "@%f"] {
            assert_eq!(name_of(none), None, "{none}");
        }
    }

    #[test]
    fn local_names_follow_docker_s_rule() {
        for good in ["ab", "a-b_c.d", "0a", &"a".repeat(64)] {
            assert!(check_local(good).is_ok(), "{good}");
        }
        for bad in ["a", "-ab", ".ab", "a/b", "a b", "../bad", "é1", &"a".repeat(256)] {
            assert!(check_local(bad).is_err(), "{bad}");
        }
    }
}
