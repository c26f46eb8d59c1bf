//! API versions in paths: which segment is one, and which ones are refused.

pub(crate) use wharf_api::ApiVersion;

/// Reads the first path segment as `v1.51`. `None` when it is no version at all,
/// which makes the segment an ordinary (unknown) path.
pub(crate) fn from_segment(segment: &str) -> Option<ApiVersion> {
    let digits = segment.strip_prefix('v')?;
    let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    Some(ApiVersion::new(number(major)?, number(minor)?))
}

/// Says in Docker's words why a client of this version is refused.
pub(crate) fn refusal(version: ApiVersion) -> Option<String> {
    if version > ApiVersion::MAX {
        return Some(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::MAX
        ));
    }
    (version < ApiVersion::MIN).then(|| {
        format!(
            "client version {version} is too old. Minimum supported API version is {}, \
             please upgrade your client to a newer version",
            ApiVersion::MIN
        )
    })
}

/// Whether a request of a version that is refused otherwise is answered all the same.
///
/// COMPAT: skopeo, buildah and podman up to 2023 ask for images with a fixed 1.22 and do not
/// negotiate; what they use of it never changed.
pub(crate) fn is_tolerated(version: ApiVersion, segments: &[&str]) -> bool {
    version == ApiVersion::new(1, 22) && segments.first() == Some(&"images")
}

fn number(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_segments_parse() {
        let check = |input, expected| assert_eq!(from_segment(input), expected, "{input}");
        check("v1.51", Some(ApiVersion::new(1, 51)));
        check("v1.9", Some(ApiVersion::new(1, 9)));
        check("v2", Some(ApiVersion::new(2, 0)));
        check("v1.99999999999", Some(ApiVersion::new(1, u16::MAX)));
        check("vbanana", None);
        check("v", None);
        check("v1.", None);
        check("v1.2.3", None);
        check("v1.+2", None);
        check("volumes", None);
        check("1.51", None);
    }

    #[test]
    fn an_old_fixed_version_reaches_images_only() {
        let old = ApiVersion::new(1, 22);
        assert!(is_tolerated(old, &["images", "json"]));
        assert!(!is_tolerated(old, &["containers", "json"]));
        assert!(!is_tolerated(ApiVersion::new(1, 23), &["images", "json"]));
    }

    #[test]
    fn refusals_are_docker_s_words() {
        let check = |minor, expected: Option<&str>| {
            assert_eq!(refusal(ApiVersion::new(1, minor)).as_deref(), expected);
        };
        check(24, None);
        check(51, None);
        check(
            52,
            Some("client version 1.52 is too new. Maximum supported API version is 1.51"),
        );
        check(
            23,
            Some(
                "client version 1.23 is too old. Minimum supported API version is 1.24, \
                 please upgrade your client to a newer version",
            ),
        );
    }
}
