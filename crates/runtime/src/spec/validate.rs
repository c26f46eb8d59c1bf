//! Which field of a configuration is wrong.
