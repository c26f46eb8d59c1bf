//! Which removals of images are allowed: a pure decision over the plan and the containers.
use wharf_store::RemoveMode;

use crate::error::{Error, Result};

/// What the decision depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct Question<'a> {
    /// What the caller wrote.
    pub(super) asked: &'a str,
    /// The image's id, `sha256:...`.
    pub(super) image: &'a str,
    /// A name was given, not an id.
    pub(super) by_name: bool,
    /// The image itself would go.
    pub(super) deletes: bool,
    /// Its names are in so many repositories.
    pub(super) repositories: usize,
    /// Ids of running containers of the image.
    pub(super) running: Vec<String>,
    /// Ids of its other containers.
    pub(super) stopped: Vec<String>,
    /// The caller insists.
    pub(super) force: bool,
}

/// How to remove, or why not. COMPAT: texts and rules are Docker's (oracle images/rmi_in_use_and_force).
pub(super) fn decide(question: &Question<'_>) -> Result<RemoveMode> {
    let (asked, image) = (question.asked, short(question.image));
    if !question.deletes {
        return Ok(RemoveMode::Delete);
    }
    let user = question
        .running
        .first()
        .or(question.stopped.first())
        .map(|id| short(id));
    match (question.by_name, user) {
        (true, None) => return Ok(RemoveMode::Delete),
        (true, Some(_)) if question.force => return Ok(RemoveMode::KeepDangling),
        (true, Some(user)) => {
            return Err(Error::conflict(format!(
                "conflict: unable to remove repository reference {asked:?} (must force) - \
                 container {user} is using its referenced image {image}"
            )));
        }
        (false, _) => {}
    }
    if let Some(user) = question.running.first() {
        return Err(Error::conflict(format!(
            "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {}",
            short(user)
        )));
    }
    if question.force {
        let keep = !question.stopped.is_empty();
        return Ok(if keep {
            RemoveMode::KeepDangling
        } else {
            RemoveMode::Delete
        });
    }
    if question.repositories > 1 {
        return Err(Error::conflict(format!(
            "conflict: unable to delete {image} (must be forced) - image is referenced in multiple repositories"
        )));
    }
    match question.stopped.first() {
        None => Ok(RemoveMode::Delete),
        Some(user) => Err(Error::conflict(format!(
            "conflict: unable to delete {image} (must be forced) - image is being used by stopped container {}",
            short(user)
        ))),
    }
}

/// The first twelve digits of an id.
fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "sha256:0123456789abcdef";

    fn question<'a>() -> Question<'a> {
        Question {
            asked: "x:1",
            image: IMAGE,
            deletes: true,
            repositories: 1,
            ..Question::default()
        }
    }

    fn check(question: Question<'_>, expected: Result<RemoveMode, &str>) {
        let decided = decide(&question);
        match (decided, expected) {
            (Ok(mode), Ok(wanted)) => assert_eq!(mode, wanted, "{question:?}"),
            (Err(error), Err(part)) => assert!(error.message().contains(part), "{error} for {question:?}"),
            (decided, expected) => panic!("{decided:?}, not {expected:?}, for {question:?}"),
        }
    }

    #[test]
    fn names_that_are_not_the_last_just_go() {
        let used = vec!["c".repeat(64)];
        check(
            Question {
                by_name: true,
                deletes: false,
                running: used,
                ..question()
            },
            Ok(RemoveMode::Delete),
        );
    }

    #[test]
    fn the_last_name_of_a_used_image_needs_force_and_keeps_the_image() {
        let used = || vec!["c".repeat(64)];
        let by_name = || Question {
            by_name: true,
            ..question()
        };
        check(by_name(), Ok(RemoveMode::Delete));
        check(
            Question {
                stopped: used(),
                ..by_name()
            },
            Err("(must force)"),
        );
        check(
            Question {
                running: used(),
                ..by_name()
            },
            Err("container cccccccccccc is using"),
        );
        check(
            Question {
                running: used(),
                force: true,
                ..by_name()
            },
            Ok(RemoveMode::KeepDangling),
        );
    }

    #[test]
    fn by_id_running_containers_cannot_be_forced() {
        let used = || vec!["c".repeat(64)];
        check(question(), Ok(RemoveMode::Delete));
        check(
            Question {
                repositories: 2,
                ..question()
            },
            Err("referenced in multiple repositories"),
        );
        check(
            Question {
                repositories: 2,
                force: true,
                ..question()
            },
            Ok(RemoveMode::Delete),
        );
        check(
            Question {
                running: used(),
                force: true,
                ..question()
            },
            Err("(cannot be forced)"),
        );
        check(
            Question {
                stopped: used(),
                ..question()
            },
            Err("stopped container cccccccccccc"),
        );
        check(
            Question {
                stopped: used(),
                force: true,
                ..question()
            },
            Ok(RemoveMode::KeepDangling),
        );
    }
}
