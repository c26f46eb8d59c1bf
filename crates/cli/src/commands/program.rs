//! What belongs to no group: `inspect`, `login`, `logout`, `search`, `version`, `daemon`,
//! `completion`, `man`.

pub mod completion;
pub mod inspect;
pub mod login;
pub mod logout;
pub mod man;
pub mod search;
pub mod version;
