//! Every verb.

use crate::commands::{container, image, network, program, system, volume};
use crate::verb::Verb;

/// The groups of verbs.
pub(crate) const GROUPS: [(&str, &str); 6] = [
    ("builder", "Manage builds"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage the engine"),
    ("volume", "Manage volumes"),
];

/// The verbs.
pub(crate) const VERBS: &[&Verb] = &[
    &container::attach::VERB,
    &container::commit::VERB,
    &container::cp::VERB,
    &container::create::VERB,
    &container::diff::VERB,
    &container::exec::VERB,
    &container::export::VERB,
    &container::inspect::VERB,
    &container::kill::VERB,
    &container::logs::VERB,
    &container::ls::VERB,
    &container::pause::VERB,
    &container::port::VERB,
    &container::prune::VERB,
    &container::rename::VERB,
    &container::restart::VERB,
    &container::rm::VERB,
    &container::run::VERB,
    &container::start::VERB,
    &container::stats::VERB,
    &container::stop::VERB,
    &container::top::VERB,
    &container::unpause::VERB,
    &container::update::VERB,
    &container::wait::VERB,
    &container::why::VERB,
    &image::build::VERB,
    &image::history::VERB,
    &image::import::VERB,
    &image::inspect::VERB,
    &image::load::VERB,
    &image::ls::VERB,
    &image::prune::VERB,
    &image::pull::VERB,
    &image::push::VERB,
    &image::rm::VERB,
    &image::save::VERB,
    &image::tag::VERB,
    &network::connect::VERB,
    &network::create::VERB,
    &network::disconnect::VERB,
    &network::inspect::VERB,
    &network::ls::VERB,
    &network::prune::VERB,
    &network::rm::VERB,
    &volume::create::VERB,
    &volume::inspect::VERB,
    &volume::ls::VERB,
    &volume::prune::VERB,
    &volume::rm::VERB,
    &system::builder_prune::VERB,
    &system::df::VERB,
    &system::dial_stdio::VERB,
    &system::events::VERB,
    &system::info::VERB,
    &system::ops::VERB,
    &system::prune::VERB,
    &system::reset::VERB,
    &system::stop_all::VERB,
    &program::completion::VERB,
    &program::inspect::VERB,
    &program::login::VERB,
    &program::logout::VERB,
    &program::man::VERB,
    &program::search::VERB,
    &program::version::VERB,
];

/// What words stand for.
#[derive(Debug)]
pub(crate) enum Found {
    /// A verb, the name it was called by, and how many words that took.
    Verb(&'static Verb, String, usize),
    /// A group without a verb.
    Group(&'static str, &'static str),
    /// A group with a word that is none of its verbs.
    UnknownInGroup(&'static str),
    /// Nothing.
    Unknown,
}

/// Finds the verb that the words begin with.
pub(crate) fn find(words: &[String]) -> Found {
    let first = words.first().map_or("", String::as_str);
    let by_name = |name: &str| VERBS.iter().find(|verb| verb.names.contains(&name));
    if let Some((group, about)) = GROUPS.iter().find(|(group, _)| *group == first) {
        let Some(second) = words.get(1).filter(|word| !word.starts_with('-')) else {
            return Found::Group(group, about);
        };
        let name = format!("{first} {second}");
        return match by_name(&name) {
            Some(verb) => Found::Verb(verb, name, 2),
            None => Found::UnknownInGroup(group),
        };
    }
    match by_name(first) {
        Some(verb) => Found::Verb(verb, first.to_owned(), 1),
        None => Found::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_verb_says_what_it_does() {
        let mut names = Vec::new();
        for verb in VERBS {
            assert!(!verb.about.is_empty() && !verb.names.is_empty());
            names.extend_from_slice(verb.names);
            let flags = verb.all_flags();
            assert!(flags.iter().all(|flag| !flag.help.is_empty()), "{:?}", verb.names);
            let mut longs: Vec<&str> = flags.iter().map(|flag| flag.long).collect();
            longs.sort_unstable();
            let count = longs.len();
            longs.dedup();
            assert_eq!(longs.len(), count, "a flag of {:?} is declared twice", verb.names);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn run_and_create_have_all_of_dockers_flags_and_two_of_ours() {
        let shown = |verb: &Verb| verb.all_flags().iter().filter(|flag| !flag.hidden).count();
        assert_eq!(shown(&container::run::VERB), 106);
        assert_eq!(shown(&container::create::VERB), 103);
    }
}
