//! System call numbers by architecture, from the kernel's tables.

mod aarch64;
mod arm;
mod i386;
mod x32;
mod x86_64;

use super::Arch;

/// The number of a call; none where the architecture has no such call.
pub(super) fn number_of(arch: Arch, name: &str) -> Option<u32> {
    let table = match arch {
        Arch::X86_64 => x86_64::NUMBERS,
        Arch::I386 => i386::NUMBERS,
        Arch::X32 => x32::NUMBERS,
        Arch::Aarch64 => aarch64::NUMBERS,
        Arch::Arm => arm::NUMBERS,
    };
    table
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()
        .and_then(|index| table.get(index))
        .map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_hold_the_kernels_numbers() {
        for table in [
            x86_64::NUMBERS,
            i386::NUMBERS,
            x32::NUMBERS,
            aarch64::NUMBERS,
            arm::NUMBERS,
        ] {
            assert!(table.is_sorted_by(|a, b| a.0 < b.0));
            assert!(table.len() > 300);
        }
        let check = |arch, name, expected| assert_eq!(number_of(arch, name), expected, "{name}");
        check(Arch::X86_64, "read", Some(0));
        check(Arch::X86_64, "mkdir", Some(83));
        check(Arch::X86_64, "clone3", Some(435));
        check(Arch::X86_64, "ipc", None);
        check(Arch::I386, "mkdir", Some(39));
        check(Arch::I386, "socketcall", Some(102));
        check(Arch::X32, "read", Some(0x4000_0000));
        check(Arch::X32, "execve", Some(0x4000_0208));
        check(Arch::Aarch64, "mkdirat", Some(34));
        check(Arch::Aarch64, "mkdir", None);
        check(Arch::Arm, "mkdir", Some(39));
        check(Arch::Arm, "set_tls", Some(0x000f_0005));
    }
}
