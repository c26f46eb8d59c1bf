//! System call filters: Docker's default policy as data, and a compiler to BPF.

use crate::spec::Seccomp;

/// Docker's default policy for a container with these capabilities
/// (`CAP_...` names): 376 rules, unknown calls fail with EPERM.
#[must_use]
pub fn default_profile(capabilities: &[String]) -> Seccomp {
    let _ = capabilities;
    todo!()
}
