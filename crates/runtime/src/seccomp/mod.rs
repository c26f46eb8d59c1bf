//! System call filters: Docker's default policy as data, profiles in Docker's
//! own format, and a compiler from the specification to BPF.
//!
//! ```text
//! spec::Seccomp -> rules by number, per architecture      (policy)
//!               -> intervals of equal verdict, a balanced
//!                  tree of comparisons, argument checks
//!                  at its leaves                           (program)
//! ```

mod cache;
mod docker;
mod numbers;
mod policy;
mod profile;
mod program;

#[cfg(test)]
mod tests;

use crate::RuntimeError;
use crate::spec::{Seccomp, Spec};
use wharf_sys::seccomp as kernel;
pub use wharf_sys::seccomp::Instruction;

pub use cache::compile_cached;
pub use docker::resolve_profile;
pub(crate) use policy::KNOWN_ARCHITECTURES;
pub use profile::default_profile;

/// Architectures that can occur on the machines we run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
}

impl Arch {
    /// The architecture of this program.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const NATIVE: Self = Self::X86_64;
    /// The architecture of this program.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const NATIVE: Self = Self::Aarch64;

    /// `AUDIT_ARCH_...`; x32 shares that of x86-64.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits; of the others only the lower half
    /// counts, as libseccomp compares them.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

impl Filter {
    /// As it travels to the process that loads it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|instruction| instruction.to_bytes()).collect()
    }

    /// The instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }
}

/// Compiles a filter for this machine.
///
/// # Errors
/// The field with an unknown or impossible value; names of calls are no
/// error, as the specification says.
pub fn compile(seccomp: &Seccomp) -> Result<Filter, RuntimeError> {
    let policies = policy::plan_policies(seccomp, Arch::NATIVE)?;
    program::assemble(&policies).map(Filter)
}

/// Refuses names of calls that no architecture knows, where that is asked for.
///
/// COMPAT: crun's annotation `run.oci.seccomp_fail_unknown_syscall`.
pub(crate) fn check_names(spec: &Spec) -> Result<(), RuntimeError> {
    let asked = spec.annotations.get("run.oci.seccomp_fail_unknown_syscall");
    let (Some(seccomp), Some(_)) = (&spec.linux().seccomp, asked.filter(|value| *value != "0")) else {
        return Ok(());
    };
    const ALL: [Arch; 5] = [Arch::X86_64, Arch::I386, Arch::X32, Arch::Aarch64, Arch::Arm];
    let is_known = |name: &String| ALL.iter().any(|arch| numbers::number_of(*arch, name).is_some());
    for (index, rule) in seccomp.syscalls.iter().enumerate() {
        if let Some(name) = rule.names.iter().find(|name| !is_known(name)) {
            let field = format!("linux.seccomp.syscalls[{index}].names");
            let text = format!("{field}: unknown syscall {name:?}");
            return Err(RuntimeError::invalid(field, text));
        }
    }
    Ok(())
}

/// The flags of seccomp(2) that the configuration asks for.
///
/// # Errors
/// Unknown flags.
pub(crate) fn filter_flags(seccomp: &Seccomp) -> Result<u32, RuntimeError> {
    let flags = named_flags(seccomp)?;
    if crate::listener::is_wanted(seccomp) {
        // The two would otherwise both claim the call's answer; there is one thread.
        return Ok(flags & !kernel::FLAG_TSYNC | kernel::FLAG_NEW_LISTENER);
    }
    // COMPAT: without a listener it says nothing, and the kernel refuses it.
    Ok(flags & !kernel::FLAG_WAIT_KILLABLE_RECV)
}

fn named_flags(seccomp: &Seccomp) -> Result<u32, RuntimeError> {
    seccomp.flags.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => kernel::FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => kernel::FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => kernel::FLAG_SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => kernel::FLAG_WAIT_KILLABLE_RECV,
                other => {
                    let text = format!("linux.seccomp.flags: unknown value {other:?}");
                    return Err(RuntimeError::invalid("linux.seccomp.flags", text));
                }
            })
    })
}
