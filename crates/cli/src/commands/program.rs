//! What belongs to no group: `inspect`, `login`, `logout`, `search`, `version`, `daemon`,
//! `completion`, `man`.

pub(crate) mod completion;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod search;
pub(crate) mod version;
